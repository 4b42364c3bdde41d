"""Crash points: every call of every kind of task, and each way in which it can fail."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from tests.crash import other_work
from tests.crash.lane import Lane, Process, Put, open_lane
from tests.services import S3Address

HOWS = ("killed before", "killed after", "raises", "hangs", "reply lost")
_ONLY_S3 = ("lost for good",)  # the second attempt loses its reply as well
# Calls that repeat, whatever the task does: the first of each is a point.
_BACKGROUND = (
    "redis:PING", "redis:watch", "redis:take", "redis:XREADGROUP", "redis:reclaim", "redis:promote", "redis:renew",
    "redis:admit", "redis:lead", "redis:resign", "redis:adopt", "redis:settle",
    "redis:XAUTOCLAIM", "redis:remove_idle_consumers", "redis:loss", "redis:CLIENT", "redis:SUBSCRIBE", "redis:XGROUP",
    "s3:HeadBucket",
)  # fmt: skip
_JANITOR = ":janitor"  # the lock of a queue's janitor, which repeats as well
# Calls that only read, whatever is done: points of the first kind alone.
_LOOKING = ("redis:INFO", "redis:XINFO", "redis:CONFIG", "redis:stats")
_FORGOTTEN_S = 150.0  # a dead consumer is removed after ten leases; this machine may be busy
_ROUND = 40
_MAX_LISTINGS = 4  # of one sweep: one after the other, in turn for originals, thumbnails and uploads
_MAX_FILE_CALLS = 2  # of one name: the service reads and writes files in a loop


@dataclass(frozen=True)
class Kind:
    """One kind of task: how it is created, and the roles that do it. ``beside``: roles of a process that never fails.

    ``settings`` can name the lane's ``{server}``. ``undo`` reverses the work, and returns what is wrong then.
    """

    name: str
    put: Put
    roles: tuple[str, ...]
    whole_video_bytes: int | None = None
    beside: tuple[str, ...] = ()
    after_death: Callable[[Lane], None] = lambda _lane: None
    undo: Callable[[Lane, str], list[str]] | None = None
    settings: tuple[tuple[str, str], ...] = ()


_LONGER = (("TASKS__CLAIM_AFTER", "3s"),)  # than a process stands still on a busy machine: two must not share a block
KINDS = (
    Kind("image", Lane.put_picture, ("processing",)),
    Kind("refused", Lane.put_refused, ("processing",)),
    Kind("video", Lane.put_video, ("processing",), whole_video_bytes=0),
    Kind("large video", Lane.put_large_video, ("processing",)),
    Kind("remote", Lane.put_remote, ("cache",)),
    Kind("delete", Lane.put_deletion, ("events", "delete")),
    Kind("deletion by call", Lane.put_deletion_by_call, ("grpc",), beside=("delete",)),
    Kind("completion", Lane.put_completed, ("grpc",), beside=("processing",)),
    Kind("completion in parts", Lane.put_completed_in_parts, ("grpc",), beside=("processing",)),
    Kind("sweep", Lane.put_lost, ("sweeper",), beside=("processing",), after_death=Lane.sweep_again),
    Kind("blocked host", other_work.put_blocked_host, ("grpc",), beside=("delete",)),
    Kind("purge of a host", other_work.put_blocked_host, ("delete",), beside=("grpc",)),
    Kind("unblocked host", other_work.put_unblocked_host, ("grpc",)),
    Kind("revocation", other_work.put_revocation, ("grpc",), beside=("http",)),
    Kind("first token", other_work.put_first_token, ("grpc",), beside=("http",)),
    Kind("webhook", other_work.put_event, ("webhooks",), after_death=other_work.free_reader),
    Kind("purge of a CDN", other_work.put_purge, ("delete",), settings=other_work.CDN),
    Kind("block", Lane.put_block, ("grpc",), beside=("http",), undo=Lane.unblock, settings=_LONGER),
)


@dataclass(frozen=True)
class Point:
    """One crash point."""

    kind: Kind
    name: str
    nth: int
    how: str

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.name} #{self.nth} {self.how}"


@dataclass(frozen=True)
class Outcome:
    """The result of a point: violations, and whether the fault happened at all."""

    point: Point
    violations: tuple[str, ...]
    fired: bool
    log: str
    seconds: float


def count_points(lane: Lane, kinds: Iterable[Kind] = KINDS, *, runs: int = 2) -> list[Point]:
    """Return the points of each kind: all calls of its last dry run, times all ways to fail. An earlier run warms up
    caches."""
    points: list[Point] = []
    for kind in kinds:
        for _ in range(runs):
            _start_beside(lane, kind)
            process = _start(lane, kind)
            media_id = kind.put(lane)
            assert lane.wait(media_id, while_alive=process), process.log.read_text()[-3000:]
            lane.remember(kind.name, media_id)
            violations = lane.checker.violations([media_id])
            assert not violations, violations
            calls = process.calls()
            assert not _undo(lane, kind, process, media_id)
            lane.kill_all()
        points += [
            Point(kind, name, nth, how)
            for name, nth in dict.fromkeys(calls)
            if nth <= most_of(name, looking=kind is KINDS[0])
            for how in (*HOWS, *(_ONLY_S3 if name.startswith("s3:") else ()))
        ]
    return points


def most_of(name: str, *, looking: bool = False) -> int:
    """Return how many calls of a name are separate points. ``looking`` includes calls that change nothing."""
    if name.startswith(_LOOKING):
        return 1 if looking else 0
    if name.startswith("fs:"):
        return _MAX_FILE_CALLS
    if name.startswith("s3:ListObjectsV2"):
        return _MAX_LISTINGS
    return 1 if name.startswith(_BACKGROUND) or name.endswith(_JANITOR) else 1000


def _start(lane: Lane, kind: Kind, fault: dict[str, object] | None = None) -> Process:
    return lane.start(kind.roles, fault, whole_video_bytes=kind.whole_video_bytes, **_settings(lane, kind))


def _start_beside(lane: Lane, kind: Kind) -> list[Process]:
    return [lane.start(kind.beside, **_settings(lane, kind))] if kind.beside else []


def _settings(lane: Lane, kind: Kind) -> dict[str, Any]:
    return {name: value.format(server=lane.remote.url) for name, value in kind.settings}


def _undo(lane: Lane, kind: Kind, process: Process, media_id: str) -> list[str]:
    """Undo the work by a new process, because the fault of this one might still happen."""
    if kind.undo is None:
        return []
    process.kill()
    _start(lane, kind)
    return kind.undo(lane, media_id)


def try_point(lane: Lane, point: Point) -> Outcome:
    """Create work, let the process fail at the point, start another if it died, wait, and check."""
    started = time.monotonic()
    media_id = point.kind.put(lane)
    beside = _start_beside(lane, point.kind)
    process = _start(lane, point.kind, {"name": point.name, "nth": point.nth, "how": point.how})
    ended = lane.wait(media_id, while_alive=process)
    other = None
    if not process.alive():
        point.kind.after_death(lane)
        other = _start(lane, point.kind)
        ended = lane.wait(media_id, while_alive=other)
    violations = lane.checker.violations([media_id])
    if ended:
        violations += _undo(lane, point.kind, other or process, media_id)
    lane.checker.seen.clear()
    lane.kill_all()
    if violations or not ended:
        violations = violations or ["it never came to rest"]
        lane.forget_everything()  # leftovers must not disturb the next point
    processes = (process, other, *beside)
    log = "".join(each.log.read_text() for each in processes if each is not None) if violations else ""
    return Outcome(point, tuple(violations), process.fired(), log, time.monotonic() - started)


def try_all(s3: S3Address, points: Iterable[Point], lanes: int) -> Iterator[Outcome]:
    """Try all points, on ``lanes`` at once. At the end of each lane no consumer of a dead process may be left.

    A lane starts over after some points, because each check of one media item lists all of the lane.
    """
    waiting: SimpleQueue[Point] = SimpleQueue()
    kinds: dict[str, Kind] = {}
    for point in points:
        waiting.put(point)
        kinds[point.kind.name] = point.kind
    done: SimpleQueue[Outcome | None] = SimpleQueue()

    def put_end(violations: list[str]) -> None:  # after a failure there are none: it has discarded the lane's state
        for each in violations:
            done.put(Outcome(Point(KINDS[0], "all points of a lane", 0, ""), (each,), True, "", 0))

    def work() -> None:
        try:
            with open_lane(s3) as lane:
                count_points(lane, kinds.values())
                failed = False
                for number in itertools.count(1):
                    if waiting.empty():
                        break
                    outcome = try_point(lane, waiting.get_nowait())
                    failed = failed or bool(outcome.violations)
                    done.put(outcome)
                    if number % _ROUND == 0:
                        put_end([] if failed else lane.checker.violations())
                        lane.start_over()
                        failed = False
                put_end([] if failed else end_of(lane))
        finally:
            done.put(None)

    with ThreadPoolExecutor(lanes) as pool:
        futures = [pool.submit(work) for _ in range(lanes)]
        left = lanes
        while left:
            outcome = done.get()
            if outcome is None:
                left -= 1
            else:
                yield outcome
        for future in futures:
            future.result()


def end_of(lane: Lane) -> list[str]:
    """Return what is wrong with the lane as a whole at the end."""
    process = lane.start(("processing", "cache", "delete"))
    deadline = time.monotonic() + _FORGOTTEN_S
    alive = [f"{_host()}-{process.pid}-"]
    while (left := lane.checker.left_behind(alive)) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.kill()
    return [*lane.checker.violations(), *(f"consumer left behind: {name}" for name in left)]


def _host() -> str:
    import socket

    return socket.gethostname()


def report(outcomes: Iterable[Outcome], total: int) -> list[Outcome]:
    """Print the outcomes as they come. Return those that failed."""
    failed: list[Outcome] = []
    not_reached = 0
    count = 0
    by_kind: Counter[str] = Counter()
    for outcome in outcomes:
        count += 1
        by_kind[outcome.point.kind.name] += 1
        not_reached += not outcome.fired
        if outcome.violations:
            failed.append(outcome)
            print(f"FAILED {outcome.point}", *(f"    {each}" for each in outcome.violations), sep="\n", flush=True)
        elif count % 50 == 0:
            print(f"{count} of {total} points", flush=True)
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(by_kind.items()))
    print(
        f"{total} crash points ({kinds}): {count - len(failed)} passed, {len(failed)} failed; {not_reached} not reached"
    )
    return failed
