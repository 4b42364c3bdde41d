"""A thousand replays of a PUT against its own validation: what is served is what was validated, always.

The attacker has a valid upload URL. It signs the key, the length and the type, so it can send another file of that
length: here other pictures (each would pass), and a page that must never be served. All are sent in a loop by
several connections from before the upload is completed until after its end. AVION_REPLAYS sets how many in all.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.hostile.replay.bodies import colour_of, page, pictures, scrubbed_picture, scrubbed_video, videos
from tests.service.harness import Service
from tests.service.published import original_key

REPLAYS = int(os.environ.get("AVION_REPLAYS", "1000"))
CONNECTIONS = 3
VIDEO_BYTES = 9 << 20  # more than is fetched whole
PICTURE_ROUNDS = 20
VIDEO_ROUNDS = 2


@dataclass
class Attack:
    """Replays of one URL."""

    granted: wire.RequestMediaUploadResponse
    bodies: list[bytes]
    sent: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """For as long as the block runs."""
        threads = [threading.Thread(target=self._replay, args=(first,)) for first in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _replay(self, first: int) -> None:
        headers = dict(self.granted.upload_headers)
        with httpx.Client(trust_env=False, verify=False, timeout=60) as client:
            for number in itertools.count(first):
                if self._over.is_set():
                    return
                body = self.bodies[number % len(self.bodies)]
                assert client.put(self.granted.upload_url, content=body, headers=headers).status_code == 200
                self.sent += 1


def race(service: Service, name: str, content_type: str, bodies: Mapping[str, bytes]) -> tuple[wire.MediaStatus, int]:
    """One upload that is replayed all the time: its end, and how many replays there were."""
    first, *_ = bodies.values()
    length = len(first)
    granted = service.request_upload(name, content_type, length)
    assert service.put(granted, first).status_code == 200
    attack = Attack(granted, [*bodies.values()] * 3 + [page(length)])
    with attack.under_way():
        service.complete(granted.media_id)
        status = service.watch(granted.media_id)[-1]
    return status, attack.sent


def check_served(
    service: Service, bucket: S3Bucket, status: wire.MediaStatus, allowed: Mapping[str, bytes]
) -> str | None:
    """The colour of what is served, which original and all thumbnails share; None when nothing is."""
    media = service.get(f"/media/{status.media_id}")
    if status.state == wire.MediaStatus.FAILED:
        assert status.reason in ("unsupported_type", "type_mismatch")  # the page was what was validated
        assert media.status_code == 404
        assert service.get(f"/thumbnail/small/{status.media_id}").status_code == 404
        return None
    assert status.state == wire.MediaStatus.READY
    (colour,) = (name for name, body in allowed.items() if body == media.content)
    for size in ("small", "medium", "large"):
        assert colour_of(service.get(f"/thumbnail/{size}/{status.media_id}").content) == colour
    head = bucket.client.head_object(Bucket=bucket.bucket, Key=original_key(status.media_id))
    assert head["ContentType"] == media.headers["Content-Type"] == status.content_type
    return colour


@pytest.mark.timeout(300)
def test_pictures(service: Service, bucket: S3Bucket) -> None:
    bodies = pictures()
    assert len({len(body) for body in bodies.values()}) == 1
    allowed = {name: scrubbed_picture(body) for name, body in bodies.items()}
    replays = 0
    endings: list[tuple[str | None, str]] = []
    while replays < REPLAYS or len(endings) < PICTURE_ROUNDS:
        status, sent = race(service, "a.jpg", "image/jpeg", bodies)
        endings.append((check_served(service, bucket, status, allowed), status.media_id))
        replays += sent
    # The replays go on arriving after the end of most; what is served stays.
    for colour, media_id in endings:
        if colour is not None:
            assert service.get(f"/media/{media_id}").content == allowed[colour]


@pytest.mark.timeout(300)
def test_videos_that_are_patched_inside_the_store(service: Service, bucket: S3Bucket) -> None:
    bodies = videos(VIDEO_BYTES)
    assert {len(body) for body in bodies.values()} == {VIDEO_BYTES}
    allowed = {name: scrubbed_video(body) for name, body in bodies.items()}
    for _ in range(VIDEO_ROUNDS):
        status, _sent = race(service, "a.mp4", "video/mp4", bodies)
        check_served(service, bucket, status, allowed)
