"""Attacks that reach a handler are made against an ASGI application too."""

from __future__ import annotations

import pytest

from .serving import Kind


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """What answers."""
    made: Kind = request.param
    return made
