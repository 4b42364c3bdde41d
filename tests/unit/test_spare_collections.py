"""What is there when the service is ready is not looked through by the garbage collector again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from avion_media.config import Config
from avion_media.process.lifecycle import Phase
from avion_media.service import open_runtime


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


async def test_what_is_there_at_ready_is_spared() -> None:
    runtime = open_runtime(Config(), frozenset())
    try:
        assert gc.get_freeze_count() == 0
        runtime.lifecycle.advance_to(Phase.READY)
        assert gc.get_freeze_count() > 10_000
        assert len(gc.get_objects()) < 1000
    finally:
        runtime.telemetry.shutdown(1.0)
