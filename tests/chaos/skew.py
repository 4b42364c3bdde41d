"""``python -m tests.chaos.skew``: replicas of this version beside replicas of tomorrow's, under load.

Two replicas are replaced one after the other, from this version to tomorrow's and back (a rolling upgrade, and a
rollback), while clients upload, delete, undelete, block and unblock, and operators run bulk jobs. Tomorrow's version is
a copy of this one with one more field in each record, one more kind in each list, and one more format (tomorrow.py).
With ``--base REV`` the versions are that commit and this one. The exit status is 0 if no call failed, nothing was lost,
double or unexpected, and only what tomorrow's version alone can read was counted as unreadable.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.load import Caller, SteadyCalls, balanced_channel
from tests.chaos.random_run import calm, come_to_rest, stop
from tests.chaos.random_verdict import Report, Verdict, unfinished
from tests.chaos.random_work import CLIENTS, Clients, Deleter, Ledger, Listener, Observer
from tests.chaos.random_world import DELETE_DELAY_S, Background, World, open_world
from tests.chaos.skew_work import Fleet, NewerUploads, OnlyOfTomorrow, Operator, Version
from tests.chaos.tomorrow import FIELD, FORMAT_CODE, ROOT, build
from tests.crash.checker import COPIES, EXAMINED, MODERATED
from tests.service.published import FORMAT_CODES, fields_of

_SETTINGS = {"DRAIN__SETTLE": "1s", "DRAIN__GRACE": "10s", "SWEEP__INTERVAL": "15s"}
_START_S, _DRAIN_S, _REST_S = 180.0, 60.0, 240.0  # generous: the machine may be busy
_BEFORE, _MIXED, _AFTER = 0.2, 0.6, 0.2  # shares of the time of one direction
_RESTART_EVERY_S = 25.0  # of a replica, to its own version, so that each version leads for a while
_OTHER_OBJECTS = ("audit/", "journal/", EXAMINED, *MODERATED, "host/", "owner/", "secret/", *COPIES)


@dataclass
class Skew:
    """What is reported beside the verdict on each media item."""

    report: Report
    directions: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    newer: int = 0
    waited: int = 0
    unreadable: dict[str, dict[str, str]] = field(default_factory=dict)  # by version: key, kind

    @property
    def failed(self) -> int:
        """Number of calls that failed."""
        return self.codes.total() - self.codes["OK"]

    @property
    def good(self) -> bool:
        """Whether everything was as it must be."""
        return self.report.good and not self.failed

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        report = self.report
        steps = ", ".join(f"{name} {number}" for name, number in sorted(self.operators.items()))
        lines = [
            f"version skew, seed {report.seed}, {report.seconds:.0f} s: {'; '.join(self.directions)}",
            f"  calls         {self.codes.total()}",
            f"  failed calls  {self.failed}" + (f": {dict(self.codes)}" if self.failed else ""),
            f"  accepted      {report.accepted}",
            f"  operators     {steps}",
            f"  newer format  {self.newer} uploads, of which {self.waited} waited for a newer worker",
            f"  lost          {len(report.lost)}",
            f"  double        {len(report.double)}",
            f"  unexpected    {len(report.unexpected)}",
        ]
        for version, found in self.unreadable.items():
            kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(Counter(found.values()).items()))
            lines.append(f"  unreadable    by {version}: {kinds or 'none'}")
        for name in ("lost", "double", "unexpected"):
            lines += [f"  {name.upper()}: {each}" for each in getattr(report, name)[:50]]
        return lines


def run(old: Version, new: Version, *, seed: int, minutes: float, logs: Path | None = None) -> Skew:
    """Upgrade and roll back under load, and return what came of it."""
    is_tomorrow = new.name == FIELD
    FORMAT_CODES[FORMAT_CODE] = FIELD
    with ExitStack() as stack:
        world = stack.enter_context(open_world((*old.program, "serve"), **_SETTINGS))
        firsts = [each.log for each in world.replicas]
        stack.enter_context(_kept_logs(world, logs))
        channel = stack.enter_context(
            balanced_channel([each.environment["AVION_MEDIA_GRPC__BIND"] for each in world.replicas])
        )
        fleet = Fleet(world, [old, old])
        ledger, started = Ledger(), time.monotonic()
        skew = Skew(Report(seed, 0.0))
        clients = Clients(world, ledger, channel, seed, with_deadly_files=False)
        deleter, operator = Deleter(world, ledger, clients, seed), Operator(fleet, ledger, channel, seed)
        newer = NewerUploads(fleet, ledger, new, seed)
        observer = Observer(world, ledger, channel, DELETE_DELAY_S)
        listener = Background("listener", Listener(world, ledger).take_turn)
        listener.start()
        reference = calm(world, ledger, clients)
        working = [Background(f"client {number}", clients.take_turn) for number in range(CLIENTS)]
        working += [Background("operator", operator.take_turn)]
        working += [Background("newer uploads", newer.take_turn)] if is_tomorrow else []
        watching = [Background("deleter", deleter.take_turn), Background("observer", observer.take_turn)]
        caller = Caller(channel, retries=False)
        only = OnlyOfTomorrow(world, ledger, seed) if is_tomorrow else None
        conductor = _Conductor(fleet, skew, only)
        for thread in (*working, *watching):
            thread.start()
        with SteadyCalls(caller, next(iter(ledger.accepted))):
            conductor.replace_all(new, minutes * 60)
            conductor.replace_all(old, minutes * 60)
            for thread in working:
                thread.stopping.set()
            world.watch(lambda: not any(each.is_alive() for each in working), _REST_S)
        if only is not None:
            if not world.watch(only.lose_redis, _REST_S):
                skew.report.unexpected.append("the journal's entry of a later version was not set aside")
            _leave_to_newer(conductor, newer, new, skew)
        report = skew.report
        come_to_rest(world, ledger, deleter, report)
        clients.give_up.set()
        stop([*working, *watching, listener], report)
        report.seconds = time.monotonic() - started
        Verdict(world, ledger, reference, report, _OTHER_OBJECTS).give([])
        _judge_operator(operator, report)
        report.lost += [f"{each}: newer, and not published" for each in newer.media_ids if not newer.is_published(each)]
        report.unexpected += [f"{each.name} died: {each.deaths}" for each in world.replicas if each.deaths]
        report.unexpected += caller.problems
        skew.codes = caller.codes + ledger.codes
        skew.operators, skew.newer = Counter(operator.done), len(newer.media_ids)
        _read_logs(
            skew, {old.name: [*firsts, *map(old.log_of, world.replicas)], new.name: map(new.log_of, world.replicas)}
        )
        _judge_unreadable(skew, old, new, only, newer.media_ids)
    return skew


class _Conductor:
    """Replaces replicas. Used by the thread that watches the world, because processes die with that thread."""

    def __init__(self, fleet: Fleet, skew: Skew, only: OnlyOfTomorrow | None) -> None:
        self._only = only
        self._fleet = fleet
        self._world = fleet.world
        self._skew = skew

    def replace_all(self, version: Version, seconds: float) -> None:
        """Replace both replicas, one after the other, with a long time in between. Both versions take turns to lead."""
        self._skew.directions.append(f"{self._fleet.versions[0].name} to {version.name}")
        self._watch(seconds * _BEFORE)
        self.replace(0, version)
        if self._only is not None and version.name == FIELD:
            self._only.write()
            self._only.look(self._world.replicas[1])
        until = time.monotonic() + seconds * _MIXED
        for turn in range(1, 1000):
            self._watch(min(_RESTART_EVERY_S, until - time.monotonic()))
            if time.monotonic() >= until:
                break
            self.replace(turn % 2, self._fleet.versions[turn % 2])
        self.replace(1, version)
        self._watch(seconds * _AFTER)

    def replace(self, number: int, version: Version) -> None:
        """End a process, and start one of this version at its addresses."""
        replica = self._world.replicas[number]
        with self._fleet.steady:
            status = replica.end()
            if status != 0:
                self._skew.report.unexpected.append(f"replica {number}: exit status {status} of {replica.program}")
            version.become(replica)
            self._fleet.versions[number] = version
            replica.start()
            ready = self._world.watch(replica.ready, _START_S)
            assert ready, replica.log.read_text()[-3000:]

    def _watch(self, seconds: float) -> None:
        self._world.watch(lambda: False, max(0.0, seconds))


def _leave_to_newer(conductor: _Conductor, newer: NewerUploads, version: Version, skew: Skew) -> None:
    """After the rollback, tasks of the newer format wait until a newer replica is back. No attempt is used up."""
    world = newer._fleet.world
    left = [newer.queue() for _ in range(3)]

    def waiting() -> dict[str, dict[str, str]]:
        members = [fields_of(each) for each in world.client.zrange("{media_processing_queue}:delayed", 0, -1)]
        return {each["media_id"]: each for each in members if each.get("media_id") in left}

    def given_up() -> bool:
        return bool(world.client.xlen("{media_processing_queue}:dlq"))

    if not world.watch(lambda: len(waiting()) == len(left) or given_up(), _REST_S) or given_up():
        skew.report.unexpected.append(f"newer uploads do not wait for a newer worker: {unfinished(world)}")
    skew.waited = len(waiting())
    counted = [each for each in waiting().values() if each["attempts"] != "0"]
    skew.report.unexpected += [f"a newer upload has used up an attempt: {each}" for each in counted]
    conductor.replace(0, version)
    world.watch(lambda: given_up() or all(map(newer.is_published, newer.media_ids)), _REST_S)


def _judge_operator(operator: Operator, report: Report) -> None:
    for media_id, expected in operator.expected.items():
        found = operator.state(media_id)
        if found != expected:
            report.unexpected.append(f"{media_id} (of the operator): {found}, not {expected}")


def _read_logs(skew: Skew, logs: dict[str, Iterable[Path]]) -> None:
    """Collect what was unreadable, by version. Any other error is unexpected."""
    errors: Counter[str] = Counter()
    for version, paths in logs.items():
        found = skew.unreadable.setdefault(version, {})
        for path in paths:
            for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
                entry = json.loads(line) if line.startswith("{") else {"level": "error", "exception": line}
                if entry.get("event") == "record.unreadable":
                    found[entry["key"]] = entry["kind"]
                elif entry.get("level") in ("error", "critical"):
                    last = str(entry.get("exception") or entry.get("detail") or entry).splitlines()[-1]
                    errors[f"log of {version}: {entry.get('event')}: {last[:300]}"] += 1
    skew.report.unexpected += [f"{error} ({number} times)" for error, number in errors.items()]


def _judge_unreadable(
    skew: Skew, old: Version, new: Version, only: OnlyOfTomorrow | None, newer: Collection[str]
) -> None:
    """Today's version must count what only tomorrow's can read; nothing else, and tomorrow's nothing.

    ``newer``: media ids of tomorrow's format, which today's cannot read in the index of copies either.
    """
    expected = set(only.records) if only is not None else set()
    allowed = expected | only.allowed if only is not None else set()
    found, found_by_new = set(skew.unreadable[old.name]), set(skew.unreadable[new.name])
    others = (key for key in found - allowed if key.rpartition("/")[2] not in newer)
    wrong = [f"{old.name} cannot read {key}" for key in others]
    wrong += [f"{new.name} cannot read {key}" for key in found_by_new]
    wrong += [f"{old.name} has not counted {key}" for key in expected - found]
    skew.report.unexpected += wrong


@contextmanager
def _kept_logs(world: World, folder: Path | None) -> Iterator[None]:
    try:
        yield
    finally:
        if folder is not None:
            for path in world.replicas[0].log.parent.glob("replica-*.log"):
                (folder / path.name).write_bytes(path.read_bytes())


@contextmanager
def _versions(base: str) -> Iterator[tuple[Version, Version]]:
    """This version and tomorrow's, or a commit and this version."""
    this = Version("this", sys.executable, ROOT)
    with tempfile.TemporaryDirectory(prefix="avion-skew-") as name:
        folder = Path(name)
        if not base:
            yield this, Version(FIELD, sys.executable, build(folder))
            return
        tree = folder / "base"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", tree, base], check=True)
        try:
            subprocess.run([tree / "ops/bootstrap", "env"], check=True)
            yield Version(base.replace("/", "-"), str(tree / ".venv/bin/python"), tree), this
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def main() -> int:
    """Return 0 if the run was good."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.skew", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10, help="for each direction")
    parser.add_argument("--base", default="", metavar="REV", help="a commit, in place of today's version")
    parser.add_argument("--logs", type=Path, help="an existing folder to keep the replicas' logs in")
    arguments = parser.parse_args()
    with _versions(arguments.base) as (old, new):
        skew = run(old, new, seed=arguments.seed, minutes=arguments.minutes, logs=arguments.logs)
    print(*skew.lines(), sep="\n")
    return 0 if skew.good else 1


if __name__ == "__main__":
    sys.exit(main())
