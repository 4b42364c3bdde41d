"""From CompleteMediaUpload to READY: what a client waits for, on a service that does nothing else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

from avion_media.common.formats import BY_NAME, MP4, MediaFormat
from avion_media.common.wire.avion import media_pb2 as wire
from tests.bench.figures import Figure, Goal
from tests.bench.images.inputs import make_job_inputs, small_jpeg
from tests.bench.poster.video import Recipe, make_videos
from tests.bench.setting import Setting
from tests.service.harness import Service

_ROUNDS = 21
_VIDEO = Recipe(seconds=6, megabits_per_s=4)
_GOALS_MS = {"2 MP JPEG": 60, "12 MP JPEG": 110, "3 MP PNG": 120, "6 MP WebP": 120}


@dataclass(frozen=True)
class _Upload:
    name: str
    format: MediaFormat
    data: bytes
    goal_ms: float


def measure(setting: Setting) -> list[Figure]:
    """The median over some uploads of each kind, one after the other, after one that does not count."""
    uploads = _uploads(quick=setting.quick)
    figures = []
    with setting.running(setting.service_environment()) as service:
        for each in uploads:
            waited = [_wait_ms(service, each) for _ in range(1 + (1 if setting.quick else _ROUNDS))][1:]
            name = f"CompleteMediaUpload to READY, {each.name}, p50"
            figures.append(Figure(name, "ms", statistics.median(waited), goal=Goal(each.goal_ms, of="ours")))
    return figures


def _uploads(*, quick: bool) -> Iterator[_Upload]:
    yield _Upload("640 x 480 JPEG", BY_NAME["jpeg"], small_jpeg(), 50)
    if quick:
        return
    for each in make_job_inputs():
        yield _Upload(each.name, BY_NAME[each.format], each.data, _GOALS_MS[each.name])
    yield _Upload("6 s video", MP4, make_videos(_VIDEO)["index last"].read_bytes(), 200)


def _wait_ms(service: Service, upload: _Upload) -> float:
    granted = service.request_upload(f"x.{upload.format.extension}", upload.format.content_type, len(upload.data))
    service.put(granted, upload.data).raise_for_status()
    began = time.perf_counter()
    service.complete(granted.media_id)
    last = service.watch(granted.media_id)[-1]
    waited_ms = (time.perf_counter() - began) * 1000
    if last.state != wire.MediaStatus.READY:
        raise SystemExit(f"{upload.name} did not become READY: {last}")
    return waited_ms
