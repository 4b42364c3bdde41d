"""How often a job asks the store: each request costs CPU and a round trip."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from avion_media.common.wire.avion import media_pb2 as wire
from tests.service.harness import Service, eventually

METHODS = ("HeadObject", "GetObject", "PutObject", "DeleteObject")


def test_an_upload_takes_two_looks_two_reads_and_what_it_writes(service: Service, data_directory: Path) -> None:
    body = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    before = service.store_calls()

    assert service.upload("cat.jpg", "image/jpeg", body).state == wire.MediaStatus.READY

    def ended() -> Counter[str] | None:
        counts = service.store_calls()
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
