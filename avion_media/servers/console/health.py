"""Judges the health of the service in one place: the banner, the badges, the list and the counts use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Final

from avion_media.backends.queue import LATE_S, QueueStats
from avion_media.backends.queue.history import History, QueueSample
from avion_media.common.tasks import QUEUES
from avion_media.operations.operation import many
from avion_media.process.audit.record import first_few
from avion_media.process.lifecycle import Phase
from avion_media.process.replicas import Replica
from avion_media.process.tree import walk
from avion_media.servers.console.wording import ago, duration, exactly, queue_title

STALLED_S: Final = 600.0
"""The age of the oldest task at which a queue is stalled, as in the alert `AvionMediaQueueStalled`."""
_NAMED: Final = 3
_SILENT: Final = ("bad", "silent")
_GRACE_S: Final = 1.0  # what is so much older than the time between two samples is marked, and nothing is judged by it
REVIEW_LATE_S: Final = 86_400.0
"""How long media can wait for a moderator, as in the alert `AvionMediaReviewWaits`."""


class Tone(IntEnum):
    """How bad something is; the lower-case name is its class in the style sheet."""

    GOOD = 0
    INFO = 1
    WARN = 2
    BAD = 3

    @property
    def css(self) -> str:
        """The class of a part with this tone."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator should know. ``page`` shows it, and ``runbook`` in docs/runbooks says what to do."""

    tone: Tone
    title: str
    text: str
    page: str
    anchor: str = ""
    runbook: str = ""


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue, judged: a tone, a word for its badge, and a sentence where it deviates."""

    tone: Tone
    word: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that are judged, read at one moment from the memory of this process."""

    report: Mapping[str, Any]  # of /readyz
    tree: Mapping[str, Any]  # of /tree
    history: History
    now: float  # Unix seconds
    held: Sequence[str] = ()  # times since which media items wait for a moderator (ISO 8601), the oldest first
    replicas: Sequence[Replica] = ()  # as they were a few seconds ago, by name
    sampling_s: float = 4.0  # time between two samples of the queues

    @property
    def queues(self) -> Mapping[str, QueueSample]:
        """The last figures of the queues; empty before the first reading."""
        return self.history.latest.queues if self.history.latest else {}

    @property
    def age_s(self) -> float | None:
        """The age of these figures; None before the first reading."""
        return None if self.history.latest is None else max(0.0, self.now - self.history.latest.at)

    @property
    def is_stale(self) -> bool:
        """Whether the figures of the queues are older than they should be, because Redis does not respond."""
        late_s = self.sampling_s + _GRACE_S
        return self.age_s is None or self.age_s > late_s or not self.is_redis_up

    @property
    def is_redis_up(self) -> bool:
        """Whether Redis responds. Otherwise no replica can report."""
        return bool(self.report["dependencies"]["redis"] == "up")

    def state_of(self, replica: Replica) -> tuple[str, str]:
        """Return the tone and the word for a replica."""
        if not self.is_redis_up:
            return "off", "unknown"
        if replica.is_silent(self.now):
            return _SILENT
        return "good" if replica.is_ready else "warn", replica.phase.replace("_", " ").lower()

    @property
    def dead_letters(self) -> int:
        """Dead letters of all queues."""
        return self.history.total("dead_letters")

    @property
    def new_dead_letters(self) -> int:
        """Dead letters that were added within the last hour, as far as this process observed."""
        return int(sum(each for each in self.history.growth_of("buried") if each is not None))


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement. The banner shows the worst finding; the list of what needs attention shows all."""

    tone: Tone
    title: str
    text: str
    findings: tuple[Finding, ...]

    def on(self, page: str) -> list[Finding]:
        """Return the findings of one page that need attention."""
        return [each for each in self.findings if each.page == page and each.tone >= Tone.WARN]


def assess(facts: Facts) -> Health:
    """Judge the facts."""
    findings = tuple(sorted(_findings(facts), key=lambda each: -each.tone))
    passing = _passing_phase(facts)
    worst = findings[0] if findings else None
    if passing is not None and (worst is None or worst.tone < Tone.BAD):
        return Health(Tone.INFO, *passing, findings)
    if worst is None or worst.tone < Tone.WARN:
        return Health(Tone.GOOD, "Healthy", _all_is_well(facts), findings)
    return Health(worst.tone, worst.title, worst.text, findings)


def queue_state(facts: Facts, name: str) -> QueueState:
    """Judge one queue."""
    if facts.is_stale:
        return QueueState(
            Tone.GOOD, "Unknown", f"Redis does not respond. These figures are {duration(facts.age_s)} old."
        )
    stats = facts.queues[name].stats
    if stats.paused_since:
        by = f"Paused by {stats.paused_by or 'an operator'} {ago(stats.paused_since, facts.now)}"
        note = f": “{stats.paused_note}”" if stats.paused_note else ""
        until = f"at {exactly(stats.paused_until)} by itself" if stats.paused_until else "when an operator resumes it"
        text = f"{by}{note}. {many(stats.lag, 'task')} waiting. It resumes {until}."
        return QueueState(Tone.WARN, "Paused", f"{text} If Redis loses its data, the pause is lost, too.")
    if stats.depth and not stats.consumers:
        return QueueState(
            Tone.BAD, "No workers", f"{many(stats.depth, 'task')} waiting, and no process reads this queue."
        )
    if stats.oldest_age_s > LATE_S:
        tone = Tone.BAD if stats.oldest_age_s > STALLED_S else Tone.WARN
        effect = QUEUES[name].late if name in QUEUES else ""
        return QueueState(tone, "Late" if tone is Tone.WARN else "Stalled", f"{_why_late(stats)} {effect}".rstrip())
    if not stats.consumers:
        return QueueState(Tone.GOOD, "Unused", "No process reads this queue, and nothing is queued.")
    return QueueState(Tone.GOOD, "Running")


def _why_late(stats: QueueStats) -> str:
    """Return what keeps the oldest task waiting, as far as the figures show it."""
    if not stats.pending:
        return "Its workers take no task: they pause while something that they need does not respond."
    tenant, waiting, whose = stats.oldest_tenant, stats.of_oldest_tenant, ""
    if tenant and 2 * waiting > stats.lag:
        cap = f", of which at most {stats.tenant_cap} run at once" if stats.tenant_cap else ""
        whose = f"{waiting:,} of {many(stats.lag, 'waiting task')} belong to {tenant}{cap}. Others go first."
    if stats.slots and stats.pending >= stats.slots:
        full = f"All {many(stats.slots, 'slot')} are in use: more replicas, or tasks that end faster, would help."
        return f"{full} {whose}".rstrip()
    if whose:
        return whose
    in_use = f"{stats.pending:,} of {many(stats.slots, 'slot')} are in use"
    return f"{in_use}: tasks that are retried wait, or a worker has just stopped or hangs (see its consumers)."


def _findings(facts: Facts) -> Iterator[Finding]:
    yield from _of_dependencies(facts)
    yield from _of_queues(facts)
    yield from _of_dead_letters(facts)
    yield from _of_tree(facts)
    yield from _of_reviews(facts)
    silent = [each for each in facts.replicas if facts.state_of(each) == _SILENT]
    if silent:
        named = first_few([f"{each.name} for {duration(facts.now - each.at)}" for each in silent], _NAMED)
        text = f"Without a report: {named}. It was killed, or it hangs. One that stops as it should is not listed."
        title = f"{many(len(silent), 'replica is', 'replicas are')} silent"
        yield Finding(Tone.WARN, title, text, "system", "replicas", "target-down")
    sandbox = facts.report["sandbox"]
    if sandbox is not None and sandbox["gaps"]:
        text = f"A compromised decoder could do this: {', '.join(sandbox['gaps'])}."
        yield Finding(Tone.WARN, "The sandbox does not confine decoders fully", text, "system", "sandbox")
    unreadable = facts.report["unreadable"]
    if unreadable:
        named = "; ".join(f"{key}: {why}" for key, why in unreadable.items())
        text = f"A later version wrote these records, or they are damaged. This version skips and keeps them. {named}."
        yield Finding(Tone.WARN, "Stored records cannot be read", text, "system", "replicas", "records-unreadable")
    for danger in facts.report["dangers"]:
        yield Finding(Tone.INFO, "A setting is dangerous", f"{danger}.", "system", "process")
    for warning in facts.report["warnings"]:
        yield Finding(Tone.INFO, "Redis needs attention", f"{warning}.", "system", "dependencies")


def _of_dependencies(facts: Facts) -> Iterator[Finding]:
    kept = "" if facts.report["warnings"] else " No task is lost."
    uses = {
        "redis": (
            "Redis does not respond",
            f"Uploads cannot be completed and nothing is processed.{kept} The origin keeps serving.",
        ),
        "store": (
            "The object store does not respond",
            "Uploads fail in the client, tasks wait, and the CDN serves what it has.",
        ),
    }
    is_starting = facts.report["phase"] == Phase.STARTING
    for name, (title, text) in uses.items():
        reason = facts.report["reasons"].get(name, "")
        if facts.report["dependencies"][name] != "up" and not (is_starting and reason in ("", "not started")):
            text = f"{text} {_sentence(reason)}"
            yield Finding(Tone.BAD, title, text, "system", "dependencies", f"{name}-unavailable")


def _of_queues(facts: Facts) -> Iterator[Finding]:
    if facts.is_stale:
        if facts.age_s is not None and facts.is_redis_up:  # else that is the finding
            title = f"The figures of the queues are {duration(facts.age_s)} old"
            yield Finding(
                Tone.WARN, title, "Redis does not send new ones, so the state of the queues is unknown.", "queues"
            )
        return
    for name, sample in facts.queues.items():
        state = queue_state(facts, name)
        if state.tone < Tone.WARN:
            continue
        title = f"{queue_title(name)} queue: {state.word.lower()}"
        if sample.stats.oldest_age_s > LATE_S:
            title = f"{queue_title(name)} queue is {duration(sample.stats.oldest_age_s)} late"
        yield Finding(state.tone, title, state.text, "queues", name, "queue-stalled")


def _of_dead_letters(facts: Facts) -> Iterator[Finding]:
    total, new = facts.dead_letters, facts.new_dead_letters
    if not total:
        return
    title = many(total, "dead letter")
    if new:
        title += f", {min(new, total):,} of them new this hour"
    queues = [
        f"{queue_title(name)} {each.stats.dead_letters:,}"
        for name, each in facts.queues.items()
        if each.stats.dead_letters
    ]
    text = f"Tasks that were given up: {', '.join(queues)}. Each stays until it is replayed or dropped."
    yield Finding(Tone.WARN, title, text, "dead-letters", runbook="dead-letters")


def _of_reviews(facts: Facts) -> Iterator[Finding]:
    if facts.held:
        waits_s = facts.now - datetime.fromisoformat(facts.held[0]).timestamp()
        title = many(len(facts.held), "media item waits for review", "media items wait for review")
        text = f"Held media are not served. The oldest has been waiting for a moderator for {duration(waits_s)}."
        tone = Tone.WARN if waits_s > REVIEW_LATE_S else Tone.INFO
        yield Finding(tone, title, text, "moderation", runbook="review-waits")


def _of_tree(facts: Facts) -> Iterator[Finding]:
    if facts.report["phase"] != Phase.READY:
        return  # nodes start and stop, and the phase says so
    down = set(facts.report["down"])
    for node in walk(facts.tree):
        if node["path"] in down and not any(child["path"] in down for child in node["children"]):
            failure = f" Last failure: {node['last_failure']}." if node["last_failure"] else ""
            text = f"It restarted {many(node['restarts'], 'time')}.{failure}"
            tone = Tone.WARN if facts.report["ready"] else Tone.BAD
            yield Finding(tone, f"{node['path']} is {node['state']}", text, "system", "tree", "restart-storm")


def _passing_phase(facts: Facts) -> tuple[str, str] | None:
    phase = facts.report["phase"]
    if phase == Phase.STARTING:
        nodes = sum(1 for _ in walk(facts.tree))
        return "Starting", f"{nodes - len(facts.report['down'])} of {nodes} nodes run."
    if phase == Phase.LAME_DUCK:
        return (
            "This replica is draining",
            "It still serves, but is not ready, so load balancers send it no new requests.",
        )
    if phase in (Phase.DRAINING, Phase.STOPPING, Phase.DONE):
        return "This replica is draining", "It accepts no new tasks. Calls and tasks in progress finish, or go back."
    return None


def _all_is_well(facts: Facts) -> str:
    nodes = sum(1 for _ in walk(facts.tree))
    queues = "The queues are not read yet." if facts.is_stale else "No queue is late."
    ready = sum(facts.state_of(each)[0] == "good" for each in facts.replicas)
    replicas = f"{ready} of {many(len(facts.replicas), 'replica')} ready. " if facts.replicas else ""
    return f"{replicas}All {nodes} nodes of this one run. Redis and the object store respond. {queues}"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}." if reason else ""
