"""Each attack is made against both HTTP servers."""

from __future__ import annotations

import pytest

from tests.hostile.http.serving import Kind


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Whose server is attacked."""
    made: Kind = request.param
    return made
