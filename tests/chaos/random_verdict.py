"""Checks the invariants when all work has ended, and computes the figures.

*lost*: acknowledged, but without an end, or READY without its objects. *double*: more than one end was published.
*unexpected*: any other violation.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from avion_media.backends.queue.entries import UNCONFIRMED
from tests.chaos.random_faults import Fault
from tests.chaos.random_work import Accepted, Ledger, remote_id_of
from tests.chaos.random_world import BUCKET, CLAIM_AFTER_S, DELETE_DELAY_S, World
from tests.crash.checker import AUDIT, COPIES, HOST, JOURNAL, SECRETS, keys_of
from tests.service.published import GROUP, QUEUES, key_of, read_status

MAX_DEATHS = 3
EXAMINED = (
    "incoming/examined-"  # left by a replica that was killed while it examined the store; the sweep removes it later
)
_CLOCK_S = 0.01  # compared times come from two readings of one clock
_SEEN_LATE_S = 10.0  # the death of a process is seen when the watching thread is free
_HEARD_S = CLAIM_AFTER_S  # after the end of a stop, until the process has told Redis that it is alive
Objects = dict[str, str]  # key: ETag
Reference = dict[str, dict[str, str]]  # body's name: role: ETag


@dataclass
class Report:
    """The printed results. A run is good if nothing was lost, double or unexpected."""

    seed: int
    seconds: float
    accepted: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recoveries_s: dict[str, list[float]] = field(default_factory=dict)
    attempts: int = 0
    wasted: int = 0
    processes: int = 0
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Whether nothing was lost, double or unexpected."""
        return not (self.lost or self.double or self.unexpected)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        ends = ", ".join(f"{kind} {number}" for kind, number in sorted(self.ended.items()))
        calls = ", ".join(f"{code} {number}" for code, number in self.codes.most_common())
        share = 100 * self.wasted / max(1, self.attempts)
        lines = [
            f"random chaos, seed {self.seed}, {self.seconds:.0f} s, {self.processes} processes of two replicas",
            f"  accepted    {self.accepted}",
            f"  ended       {sum(self.ended.values())}: {ends}",
            f"  lost        {len(self.lost)}",
            f"  double      {len(self.double)}",
            f"  unexpected  {len(self.unexpected)}",
            f"  attempts    {self.attempts}, of which wasted {self.wasted} ({share:.1f} %)",
            f"  calls       {calls}",
            "  recovery: from a fault's end until what was in hand when it came had ended, in seconds",
        ]
        for kind, seconds in sorted(self.recoveries_s.items()):
            lines.append(
                f"    {kind:24}{len(seconds):4} times   median {statistics.median(seconds):6.2f}"
                f"   worst {max(seconds):6.2f}"
            )
        for name in ("lost", "double", "unexpected"):
            lines += [f"  {name.upper()}: {each}" for each in getattr(self, name)[:50]]
        return lines


class Verdict:
    """Checks one world at rest, without its proxies. ``other_objects``: prefixes of objects that are of no media item
    of the ledger."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        reference: Reference,
        report: Report,
        other_objects: tuple[str, ...] = (AUDIT, JOURNAL, EXAMINED, HOST, SECRETS, *COPIES),
    ) -> None:
        self._other_objects = other_objects
        self._world = world
        self._ledger = ledger
        self._reference = reference
        self._report = report
        self._objects = listed(world)
        self._attempts = Attempts(world)
        self._dead_letters = self._read_dead_letters()
        self._deaths = [death for each in world.replicas for death in each.deaths]
        self._stops = [stop for each in world.replicas for stop in each.stops]

    def give(self, faults: list[Fault]) -> None:
        """Fill in the report."""
        report, ledger = self._report, self._ledger
        report.accepted = len(ledger.accepted)
        report.codes = ledger.codes
        report.attempts = self._attempts.count
        report.wasted = self._attempts.count - self._attempts.distinct
        report.processes = sum(len(each.deaths) + 1 for each in self._world.replicas)
        report.unexpected += ledger.problems
        for entry in ledger.accepted.values():
            self._judge(entry)
        self._judge_strangers()
        self._judge_queues()
        report.recoveries_s = recoveries(faults, ledger)

    # -- one media item

    def _judge(self, entry: Accepted) -> None:
        state, reason = self._expected(entry)
        media_id = entry.media_id
        told = [kind.rpartition(".")[2] for _, kind, _ in self._ledger.events.get(media_id, [])]
        final = {"READY": "ready", "FAILED": "failed", "DELETED": "deleted"}[state]
        self._report.ended[f"{state.lower()} {reason}".strip() if told else "not at all"] += 1
        before = told[:-1] if entry.deleted_at else told[1:]
        if final not in told:
            self._report.lost.append(f"{media_id} ({entry.kind}): {final} was never told, but {told}")
        elif told[-1] != final or len(before) > bool(entry.deleted_at) or told.count(final) > 1:
            self._report.double.append(f"{media_id} ({entry.kind}): {told}")
        said = self._said(media_id)
        if said != (state, reason):
            self._note(entry, f"is said to be {said}, not {(state, reason)}")
        self._judge_objects(entry, state)
        self._judge_what_was_told(entry, state)
        if entry.deleted_at:
            self._judge_deletion(entry)

    def _expected(self, entry: Accepted) -> tuple[str, str]:
        if entry.deleted_at:
            return "DELETED", ""
        if entry.kind != "deadly" and self._died_by_chance(entry.media_id) and not self._is_ready(entry.media_id):
            return "FAILED", "poison"
        return entry.body.state, entry.body.reason

    def _died_by_chance(self, media_id: str) -> bool:
        """Return whether three processes died during its task, although its file is harmless. One that was suspended
        counts as dead until it goes on."""
        crashes = self._crashes(media_id)
        return len(crashes) >= MAX_DEATHS and all(self._was_dead(media_id, *each) for each in crashes)

    def _crashes(self, media_id: str) -> list[tuple[int, float]]:
        """Return pid and time of each crash that the service counted against a task that it gave up."""
        fields = self._dead_letters.get(media_id, {})
        return [
            (int(name.rsplit("-", 2)[1]), float(seconds))
            for name, _, seconds in (each.rpartition("@") for each in fields.get("crashed_workers", "").split())
        ]

    def _was_dead(self, media_id: str, pid: int, at: float) -> bool:
        """Return whether the process was dead then, or suspended from then until the task was given up."""
        given_up_at = float(self._dead_letters[media_id].get("failed_at", "inf"))
        killed = any(pid == other and seconds < at + _SEEN_LATE_S for other, seconds in self._deaths)
        return killed or any(
            pid == other and at < ended_at and given_up_at < ended_at + _HEARD_S for other, ended_at in self._stops
        )

    def _is_ready(self, media_id: str) -> bool:
        """Return whether it is READY: one of the three dead processes may have written everything."""
        return self._said(media_id) == ("READY", "")

    def _judge_objects(self, entry: Accepted, state: str) -> None:
        roles = keys_of(entry.media_id)
        objects = {role: self._objects[key] for role, key in roles.items() if key in self._objects}
        wanted = self._reference[entry.body.name] if state == "READY" else {}
        if entry.media_id in self._dead_letters and state == "FAILED":
            objects.pop("incoming", None)  # a replay of the dead letter needs it
        if objects == wanted:
            return
        missing = set(wanted) - set(objects)
        if missing:
            self._report.lost.append(f"{entry.media_id} ({entry.kind}): READY without {sorted(missing)}")
        else:
            self._note(entry, f"{state} with {sorted(objects)}, not {sorted(wanted)}, or of other bytes")

    def _judge_what_was_told(self, entry: Accepted, state: str) -> None:
        told = self._ledger.told.get(entry.media_id, [])
        finals = [each for each in told if each in ("READY", "FAILED", "DELETED")]
        allowed = {state} | ({"READY", "FAILED"} if state == "DELETED" else set())
        behind = told[told.index(finals[0]) :] if finals else []
        if set(finals) - allowed or len(behind) > 1 + (state == "DELETED"):
            self._note(entry, f"its clients were told {told}, and it is {state}")

    def _judge_deletion(self, entry: Accepted) -> None:
        times = [seconds for seconds, kind, _ in self._ledger.events.get(entry.media_id, []) if "deleted" in kind]
        early_s = entry.deleted_at + DELETE_DELAY_S - min(times, default=float("inf"))
        if early_s > _CLOCK_S:
            self._note(entry, f"removed {early_s:.2f} s too early")

    def _said(self, media_id: str) -> tuple[str, str]:
        if self._world.client.hget(key_of("media_deletion", media_id), "state") not in (None, "undeleted"):
            return "DELETED", ""
        return read_status(self._world.client.get(key_of("media_status", media_id)))

    def _note(self, entry: Accepted, what: str) -> None:
        self._report.unexpected.append(f"{entry.media_id} ({entry.kind}): {what}")

    # -- all media items together

    def _judge_strangers(self) -> None:
        known = {key for media_id in self._ledger.asked for key in keys_of(media_id).values()}
        self._report.unexpected += [
            f"unknown object {key}"
            for key in self._objects
            if not (key in known or key.startswith(self._other_objects))
        ]
        strangers = set(self._ledger.events) - self._ledger.asked
        self._report.unexpected += [f"events of {media_id}, which nobody asked for" for media_id in strangers]

    def _judge_queues(self) -> None:
        self._report.unexpected += unfinished(self._world)
        for media_id, fields in self._dead_letters.items():
            error = fields["error"]
            entry = self._ledger.accepted.get(media_id)
            deadly = entry is not None and (entry.kind == "deadly" or self._died_by_chance(media_id))
            if not (deadly and error.startswith("poison")):
                crashes = self._crashes(media_id)
                alive = [(pid, at) for pid, at in crashes if not self._was_dead(media_id, pid, at)]
                self._report.unexpected.append(
                    f"dead letter of {media_id}: {error} (pids and times: {crashes}; of these alive: {alive})"
                )
        self._report.unexpected += [f"consumer left behind: {name}" for name in left_behind(self._world)]

    def _read_dead_letters(self) -> dict[str, dict[str, str]]:
        letters: dict[str, dict[str, str]] = {}  # by the media item's id
        for queue in QUEUES:
            rows = self._world.client.xrange(f"{{{queue}}}:dlq")
            for _, fields in rows:
                letters[fields.get("media_id") or remote_id_of(fields.get("remote_url", ""))] = fields
        return letters


class Attempts:
    """The attempts that the replicas began, by their own records."""

    def __init__(self, world: World) -> None:
        begun = [
            (kind, media_id)
            for _, _, what, kind, media_id in map(str.split, world.attempts.read_text().splitlines())
            if what == "begin"
        ]
        self.count = len(begun)
        self.distinct = len(set(begun))


def listed(world: World) -> Objects:
    """Return all objects."""
    pages = world.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {each["Key"]: each["ETag"] for page in pages for each in page.get("Contents", ())}


def unfinished(world: World) -> list[str]:
    """Return what is left to do in any queue, except dead letters."""
    left = []
    for queue in (*QUEUES, "drop_deleted"):
        if not world.client.exists(queue):
            continue
        ours = queue != "drop_deleted"
        for group in world.client.xinfo_groups(queue):
            left += [f"{queue}: {group[what]} {what}" for what in ("pending", "lag") if group[what]]
        if ours and (waiting := world.client.xlen(queue)):
            left.append(f"{queue}: {waiting} entries")
        if ours and (backlog := world.client.zcard(f"{{{queue}}}:waiting") - 1) > 0:
            left.append(f"{queue}: {backlog} waiting")
        if ours and (delayed := world.client.zcard(f"{{{queue}}}:delayed")):
            left.append(f"{queue}: {delayed} delayed")
    return left


def left_behind(world: World) -> list[str]:
    """Return the consumers of dead processes."""
    alive = [f"-{each.pid}-" for each in world.replicas]
    names: set[str] = set()
    for queue in QUEUES:
        rows: Any = world.client.xinfo_consumers(queue, GROUP) if world.client.exists(queue) else []
        names |= {row["name"] for row in rows} - {UNCONFIRMED}
    return sorted(name for name in names if not any(each in name for each in alive))


def recoveries(faults: list[Fault], ledger: Ledger) -> dict[str, list[float]]:
    """Return seconds by kind of fault; see `Report.lines`. Without a task in progress: until any task ends."""
    ends = {media_id: [seconds for seconds, _, _ in events] for media_id, events in ledger.events.items()}
    all_ends = sorted(seconds for each in ends.values() for seconds in each)
    found: dict[str, list[float]] = defaultdict(list)
    for fault in faults:
        innocent = [each for each in fault.in_hand if each in ends and _kind(ledger, each) != "deadly"]
        after = [_first_after(ends[each], fault.began_at) for each in innocent]
        last = max([each for each in after if each is not None], default=None)
        if last is None:
            last = _first_after(all_ends, fault.ended_at)
        if last is not None:
            found[fault.kind].append(max(0.0, last - fault.ended_at))
    return dict(found)


def _first_after(times: list[float], moment: float) -> float | None:
    return next((each for each in times if each >= moment), None)


def _kind(ledger: Ledger, media_id: str) -> str:
    return ledger.accepted[media_id].kind if media_id in ledger.accepted else ""
