"""What all tests of the fetcher use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def fd() -> Iterator[int]:
    """An empty file."""
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file.fileno()
