"""CPU per job, both workers up and taking turns; then the memory of each, in batches of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import redis

from avion_media.domain import keys
from avion_media.domain.formats import BY_NAME
from avion_media.domain.ids import MediaId, new_media_id
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.images.inputs import Input, make_job_inputs
from tests.bench.jobs.sides import Side, our_side, their_side
from tests.bench.processes import cpu_s, watching_memory
from tests.bench.setting import Setting, install_node_packages

_GOAL = Goal(0.7)
_MEMORY_JOBS = 8  # of each picture


def measure(setting: Setting) -> list[Figure]:
    """CPU milliseconds per job of all processes of each worker (get, three sizes, four puts), and their memory."""
    jobs, rounds = (1, 1) if setting.quick else (12, 5)
    install_node_packages()
    pictures = make_job_inputs()[:1] if setting.quick else make_job_inputs()
    with (
        redis.Redis.from_url(setting.redis_url, decode_responses=True) as client,
        our_side(setting, client) as ours,
        their_side(setting, client) as theirs,
    ):
        for side in (ours, theirs):  # warm-up: connections, caches, the just-in-time compiler
            for picture in pictures:
                _run(setting, side, picture, 1 if setting.quick else 4)
        figures = []
        for picture in pictures:
            measured = partial(_cpu_ms, setting, picture, jobs)
            pairs = Pairs.taken(rounds, partial(measured, ours), partial(measured, theirs))
            figures.append(pairs.figure(f"image job, {picture.name}", "CPU ms", _GOAL))
        memory_jobs = 1 if setting.quick else _MEMORY_JOBS
        peaks = [_peak_mb(setting, side, pictures, memory_jobs) for side in (ours, theirs)]
        return [*figures, Pairs([(peaks[0], peaks[1])]).figure("image jobs, peak memory (PSS)", "MB")]


def _cpu_ms(setting: Setting, picture: Input, jobs: int, side: Side) -> float:
    uploads = _upload(setting, picture, jobs)
    before = cpu_s(side.pid)
    side.enqueue(uploads)
    side.wait_done(jobs)
    return (cpu_s(side.pid) - before) * 1000 / jobs


def _peak_mb(setting: Setting, side: Side, pictures: Sequence[Input], jobs: int) -> float:
    with watching_memory(side.pid) as memory:
        for picture in pictures:
            _run(setting, side, picture, jobs)
    return memory.peak_bytes / 1e6


def _run(setting: Setting, side: Side, picture: Input, jobs: int) -> None:
    side.enqueue(_upload(setting, picture, jobs))
    side.wait_done(jobs)


def _upload(setting: Setting, picture: Input, count: int) -> list[MediaId]:
    """What clients do before the job, and nobody's worker pays for."""
    fmt = BY_NAME[picture.format]
    media_ids = [new_media_id(fmt, int(time.time() * 1000)) for _ in range(count)]
    for each in media_ids:
        setting.store.client.put_object(
            Bucket=setting.store.bucket, Key=keys.incoming(each), Body=picture.data, ContentType=fmt.content_type
        )
    return media_ids
