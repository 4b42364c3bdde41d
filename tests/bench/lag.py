"""How late the service's event loop is while four bombs are decoded: against itself with nothing to do.

Quiet times and bombs take turns. The loop's own figure is what the service measures of itself, four times a second; a
call's is the whole of a health check by another process, made again and again: the loop's lateness, and all else.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from avion_media.common.formats import by_filename
from avion_media.common.wire.avion import media_pb2 as wire
from tests.bench.figures import Figure, Goal
from tests.bench.setting import Setting
from tests.fuzz.live.attack import Program, program
from tests.hostile.media import gif_webp_bombs, mp4_bombs, png_bombs
from tests.hostile.media.bomb import READY, Bomb
from tests.service.harness import Service

AT_ONCE = 4
_BOMBS = ("49-megapixels.png", "49-megapixels.webp", "49-megapixels.gif", "a-million-times.mp4")
_GOAL_MS = Goal(50, of="ours")
_ROUNDS = 3
_ROUND_S = 20.0
_SAMPLED_S = 0.5  # two of the service's own samples


@dataclass
class _Lateness:
    """Samples of quiet times, or of the others: the loop's by the upper bounds of their buckets, in seconds."""

    loop: Counter[float] = field(default_factory=Counter)
    calls_ms: list[float] = field(default_factory=list)

    @property
    def loop_p99_ms(self) -> float:
        """No less than it was: the bucket's upper bound."""
        left = self.loop.total() * 99 // 100
        for bound in sorted(self.loop):
            left -= self.loop[bound]
            if left < 0:
                return bound * 1000
        raise RuntimeError("the service took no sample of its event loop")

    @property
    def call_p99_ms(self) -> float:
        return sorted(self.calls_ms)[len(self.calls_ms) * 99 // 100]


def measure(setting: Setting) -> list[Figure]:
    """p99 of the loop's lateness and of a health check, in milliseconds; and how many bombs were decoded meanwhile."""
    made = [(bomb, bomb.make()) for bomb in _bombs(_BOMBS[:1] if setting.quick else _BOMBS)]
    rounds, seconds = (1, 1.0) if setting.quick else (_ROUNDS, _ROUND_S)
    quiet, bombed, decoded = _Lateness(), _Lateness(), 0
    environment = setting.service_environment(
        TASKS__SLOTS=str(AT_ONCE), SANDBOX__SLOTS=str(AT_ONCE), SANDBOX__BUDGET="4GiB"
    )
    with (
        setting.running(environment) as service,
        program("good_client", "grpc", service.grpc_address.rpartition(":")[2]) as calls,
    ):
        for bomb, content in made:  # what only the first of each costs is over
            _upload(service, bomb, content)
        for _ in range(rounds):
            _observe(service, calls, quiet, seconds)
            with _uploading(service, made) as done:
                _observe(service, calls, bombed, seconds)
            decoded += len(done)
    return [
        Figure("event loop late, four bombs / idle, p99", "ms", bombed.loop_p99_ms, quiet.loop_p99_ms, goal=_GOAL_MS),
        Figure("health check, four bombs / idle, p99", "ms", bombed.call_p99_ms, quiet.call_p99_ms, goal=_GOAL_MS),
        Figure("bombs decoded meanwhile", "", decoded),
    ]


def _bombs(names: Sequence[str]) -> list[Bomb]:
    every = {bomb.name: bomb for group in (gif_webp_bombs, mp4_bombs, png_bombs) for bomb in group.BOMBS}
    return [every[name] for name in names]


@contextmanager
def _uploading(service: Service, made: Sequence[tuple[Bomb, bytes]]) -> Iterator[list[str]]:
    """All at once, each again as soon as it is decoded, for the length of the block; the names of those that were.

    The block is left when those under way are decoded.
    """
    done: list[str] = []
    over = threading.Event()

    def upload(bomb: Bomb, content: bytes) -> None:
        while not over.is_set():
            _upload(service, bomb, content)
            done.append(bomb.name)

    with ThreadPoolExecutor(len(made)) as threads:
        uploads = [threads.submit(upload, *each) for each in made]
        try:
            yield done
        finally:
            over.set()
    for each in uploads:
        each.result()


def _upload(service: Service, bomb: Bomb, content: bytes) -> None:
    fmt = by_filename(bomb.name)
    assert fmt is not None
    status = service.upload(bomb.name, fmt.content_type, content)
    if (status.state == wire.MediaStatus.READY) != (bomb.ending is READY):
        raise RuntimeError(f"{bomb.name} ended with {status}")


def _observe(service: Service, calls: Program, lateness: _Lateness, seconds: float) -> None:
    before = _loop_samples(service)
    calls.ask()
    time.sleep(max(seconds, _SAMPLED_S))
    told = calls.ask()
    if told["failures"]:
        raise RuntimeError(f"health checks failed: {told['failures']}")
    lateness.calls_ms += told["took_ms"]
    lateness.loop += _loop_samples(service) - before


def _loop_samples(service: Service) -> Counter[float]:
    """How many samples of the loop's lateness lie in each bucket, by its upper bound in seconds."""
    page = service.metrics()
    upto = {
        float(sample.labels["le"]): int(sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "avion_event_loop_lag_seconds_bucket"
    }
    counts: Counter[float] = Counter()
    below = 0
    for bound in sorted(upto):
        counts[bound] = upto[bound] - below
        below = upto[bound]
    return counts
