"""The real service on a real Redis and a real Ceph, telling a collector of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.conftest import bucket, redis_client
from tests.telemetry.collector import Collector, collector

__all__ = ["bucket", "redis_client"]


@pytest.fixture(scope="module")
def otlp() -> Iterator[Collector]:
    """A collector that takes everything."""
    with collector() as running:
        yield running
