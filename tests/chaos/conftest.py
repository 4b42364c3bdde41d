"""A real Redis and a real Ceph, as for the tests of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.conftest import bucket, redis_client

__all__ = ["bucket", "redis_client"]


@pytest.fixture(scope="session")
def picture(data_directory: Path) -> bytes:
    """A small JPEG."""
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()
