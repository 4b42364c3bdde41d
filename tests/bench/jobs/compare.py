"""CPU per job and jobs a second, both workers up and taking turns; then the memory of each, in batches of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import redis

from avion_media.common import keys
from avion_media.common.formats import BY_NAME
from avion_media.common.ids import MediaId, new_media_id
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.images.inputs import Input, make_job_inputs
from tests.bench.jobs import latency
from tests.bench.jobs.sides import Side, our_side, their_side
from tests.bench.processes import cpu_s, watching_memory
from tests.bench.setting import Setting, install_node_packages

_GOALS = {"2 MP JPEG": Goal(0.8), "12 MP JPEG": Goal(0.5), "3 MP PNG": Goal(0.6), "6 MP WebP": Goal(0.5)}
_FASTER = Goal(1.5, at_least=True)
_ALONE = 11  # jobs that a worker has to itself, one after the other
_MEMORY_JOBS = 8  # of each picture


def measure(setting: Setting) -> list[Figure]:
    """CPU milliseconds per job of all processes of each worker (get, three sizes, four puts), their rate and memory.

    Also how long a job takes that a worker has to itself, and then how long a client waits for ours.
    """
    jobs, rounds = (1, 1) if setting.quick else (12, 5)
    install_node_packages()
    pictures = make_job_inputs(quick=setting.quick)
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
            our_rates: list[float] = []
            their_rates: list[float] = []
            measured = partial(_cpu_ms, setting, picture, jobs)
            pairs = Pairs.taken(rounds, partial(measured, ours, our_rates), partial(measured, theirs, their_rates))
            figures.append(pairs.figure(f"image job, {picture.name}", "CPU ms", _GOALS[picture.name]))
            rates = Pairs(list(zip(our_rates, their_rates, strict=True)))
            figures.append(rates.figure(f"image jobs a second, {picture.name}", "1 / s", _FASTER))
            took_ms = partial(_took_ms, setting, picture)
            alone = Pairs.taken(1 if setting.quick else _ALONE, partial(took_ms, ours), partial(took_ms, theirs))
            figures.append(alone.figure(f"one image job alone, {picture.name}", "ms"))
        memory_jobs = 1 if setting.quick else _MEMORY_JOBS
        peaks = [_peak_mb(setting, side, pictures, memory_jobs) for side in (ours, theirs)]
    memory = Pairs([(peaks[0], peaks[1])]).figure("image jobs, peak memory (PSS)", "MB")
    return [*figures, memory, *latency.measure(setting)]


def _cpu_ms(setting: Setting, picture: Input, jobs: int, side: Side, rates: list[float]) -> float:
    """CPU milliseconds per job of one batch; its jobs a second go into ``rates``."""
    uploads = _upload(setting, picture, jobs)
    before, began = cpu_s(side.pid), time.perf_counter()
    side.enqueue(uploads)
    side.wait_done(jobs)
    rates.append(jobs / (time.perf_counter() - began))
    return (cpu_s(side.pid) - before) * 1000 / jobs


def _took_ms(setting: Setting, picture: Input, side: Side) -> float:
    _run(setting, side, picture, 1)
    return side.last_took_ms()


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
