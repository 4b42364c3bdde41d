"""A real Redis and a real Ceph, as for the tests of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.programs import built
from tests.service.conftest import bucket, redis_client

__all__ = ["bucket", "redis_client"]


@pytest.fixture(scope="session")
def picture(data_directory: Path) -> bytes:
    """A small JPEG."""
    return (data_directory / "jpeg-orientation-6.jpg").read_bytes()


@pytest.fixture(scope="session")
def steady_go_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client of grpc-go (`steady_calls.go`)."""
    return built(Path(__file__).parent / "steady_calls.go", tmp_path_factory.mktemp("go"))
