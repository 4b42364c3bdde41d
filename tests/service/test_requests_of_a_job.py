"""How often a job asks the store: each request costs CPU and a round trip."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from avion_media.common.wire.avion import media_pb2 as wire
from tests.service.harness import Service, eventually

METHODS = ("HeadObject", "GetObject", "PutObject", "DeleteObject")


def asked(service: Service) -> dict[str, int]:
    """Requests so far, by method."""
    page = httpx.get(f"{service.admin_url}/metrics", trust_env=False, timeout=10).text
    counts = dict.fromkeys(METHODS, 0)
    for method, count in re.findall(r'_count\{[^}]*rpc_method="S3/(\w+)"[^}]*\} (\d+)', page):
        if method in counts:
            counts[method] += int(count)
    return counts


def test_an_upload_takes_two_looks_two_reads_and_what_it_writes(service: Service, data_directory: Path) -> None:
    body = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    before = asked(service)

    assert service.upload("cat.jpg", "image/jpeg", body).state == wire.MediaStatus.READY

    def ended() -> dict[str, int] | None:
        counts = asked(service)
        return counts if counts["DeleteObject"] > before["DeleteObject"] else None

    after = eventually(ended, "the upload to be removed, which is the job's last request")
    # Completed: is the upload there? Worked on: is it published? The record of its block is read, and the
    # upload. The rest is what it writes.
    assert {each: after[each] - before[each] for each in METHODS} == {
        "HeadObject": 2,
        "GetObject": 2,
        "PutObject": 5,  # original, thumbnails, and the index of copies
        "DeleteObject": 1,
    }
