"""Settings that are odd or dangerous, but accepted, fail no healthy file."""

from __future__ import annotations

from pathlib import Path

import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.ops.manifests import ROOT
from tests.service.harness import Service

TYPES = {
    "avif": "image/avif",
    "gif": "image/gif",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
DEMO = sorted((ROOT / "ops/demo").iterdir())


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """All at once: `tests/unit/config/test_config.py` says which are a warning."""
    return {
        "CHAOS__ENABLED": "true",
        "DELETE__DELAY": "0",
        "EVENTS__MAX_ENTRIES": "100_000",
        "REMOTE__DENY_HOSTS": "*.example.org",
        "REMOTE__TTL": "0",
        "SANDBOX__SLOTS": "1",
        "SWEEP__MARGIN": "0",
        "TASKS__CLAIM_AFTER": "5s",
        "TASKS__MAX_AGE": "1h",
        "TASKS__SLOTS": "64",
    }


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.name)
def test_a_healthy_file_becomes_ready(service: Service, path: Path) -> None:
    status = service.upload(path.name, TYPES[path.suffix[1:]], path.read_bytes())
    assert status.state == wire.MediaStatus.READY, status
