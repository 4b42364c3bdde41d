"""The table of all actions of operators. The pages, the questions, the audit log and the notices use it.

A new action is a row here. The row names what the action works on, whether it asks first, what follows, and the
function that carries it out. That function belongs to the service (`DeadLetters.replay`, `undelete`, …), not to the
console.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final
from urllib.parse import parse_qsl, urlencode

from avion_media.backends.queue import (
    DEFAULT_RATE,
    JOB_STEPS,
    NEVER_GIVEN_UP,
    BulkJobs,
    DeadLetterFilter,
    DeadLetters,
    JobStep,
    TaskQueue,
    find_jobs,
)
from avion_media.common.concurrency import in_turn
from avion_media.common.ids import AnyId, InvalidId, parse_any_id
from avion_media.common.media import is_owner
from avion_media.common.records import UnreadableRecord
from avion_media.common.tasks import DELETE_QUEUE, DROP_DELETED
from avion_media.items.deletion import undelete
from avion_media.items.moderation import Entry, InvalidEntry, NotBlocked, NotHeld, Unwanted, parse_entry
from avion_media.process.runtime import Runtime
from avion_media.process.tree import Tree
from avion_media.servers.console.dead_letters import parse_key
from avion_media.servers.console.forms import Form
from avion_media.servers.console.wording import duration, many, short

_AT_ONCE: Final = 16


class Asks(Enum):
    """When an action asks first."""

    NEVER = "never"
    MANY = "many"  # if it works on more than one target
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Service:
    """What the actions work on."""

    runtime: Runtime
    tree: Tree
    who: str = ""  # the operator, for actions that record it themselves
    note: str = ""  # the operator's note
    rate: float = DEFAULT_RATE  # of a job: targets per second


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an action: the number of targets that it changed, and a sentence for each problem."""

    done: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One row of the table. ``name`` is its name in forms and in the audit log; ``verb`` is the word on its button.

    - ``follows``: the sentences of its question.
    - ``is_final``: the action cannot be undone. For more than one target, the operator must type their number.
    - ``takes_note``: its question has a field for a note.
    - ``targets_of``: reads the targets from a form.
    """

    name: str
    verb: str
    noun: str
    icon: str
    done: str  # such as "{} queued again"; {} is the number with the noun
    asks: Asks
    follows: tuple[str, ...]
    perform: Callable[[Service, Sequence[str]], Awaitable[Outcome]]
    is_final: bool = False
    takes_note: bool = False
    targets_of: Callable[[Form], Sequence[str]] = lambda form: form.all("target")
    is_job: bool = False  # the service does it later, at a rate that the operator chooses

    @property
    def button(self) -> str:
        """The CSS classes of its button in a question or a selection."""
        return "danger solid" if self.is_final or self.name in ("delete", "block") else "primary"

    def must_ask(self, count: int) -> bool:
        """Return whether the console must ask before it does this to ``count`` targets."""
        return self.asks is Asks.ALWAYS or (self.asks is Asks.MANY and count > 1)

    def wants_number(self, count: int) -> bool:
        """Return whether the operator must type the number of targets."""
        return self.is_final and count > 1

    def question(self, count: int) -> str:
        """Return the question, which names the action and the number of targets."""
        return f"{self.verb} {many(count, self.noun)}?" if count != 1 else f"{self.verb} this {self.noun}?"

    def result(self, outcome: Outcome) -> str:
        """Return what was done, as a sentence."""
        done = self.done.format(many(outcome.done, self.noun), "is" if outcome.done == 1 else "are")
        left = f" Not done: {'; '.join(outcome.problems[:3])}." if outcome.problems else ""
        more = f" And {len(outcome.problems) - 3} more." if len(outcome.problems) > 3 else ""
        return f"{done}{left}{more}" if outcome.done or not outcome.problems else f"{left}{more}".strip()


def actions_of(delete_delay_s: float, evidence_ttl_s: float) -> dict[str, Action]:
    """Return all actions by name. ``delete_delay_s``: how long a deletion can be undone."""
    rows = (
        Action(
            "replay",
            "Replay",
            "dead letter",
            "replay",
            "{} {} queued again.",
            Asks.MANY,
            (
                "They go back to their queues with all attempts open.",
                "Those whose media item was deleted meanwhile end at once.",
                "If the cause is still there, they come back here.",
            ),
            partial(_on_dead_letters, DeadLetters.replay),
        ),
        Action(
            "replay_all",
            "Replay all of",
            "queue",
            "replay",
            "{} {} replayed in bulk: see the page about queues.",
            Asks.ALWAYS,
            (
                "The dead letters that match go back to their queues, oldest first, with all attempts open.",
                "What fails from now on is not touched.",
                "The job can be paused and cancelled on the page about queues.",
            ),
            _replay_all,
            is_job=True,
        ),
        Action(
            "undelete_all",
            "Undelete all media of",
            "owner",
            "undo",
            "The deleted media of {} {} undeleted in bulk: see the page about queues.",
            Asks.ALWAYS,
            (
                "Media whose removal has not begun are served again.",
                "The job can be paused and cancelled on the page about queues.",
            ),
            _undelete_all,
            is_job=True,
        ),
        Action(
            "pause_job", "Pause", "job", "pause", "{} {} paused.", Asks.NEVER, (), partial(_on_jobs, JOB_STEPS["pause"])
        ),
        Action(
            "resume_job",
            "Resume",
            "job",
            "play",
            "{} {} resumed.",
            Asks.NEVER,
            (),
            partial(_on_jobs, JOB_STEPS["resume"]),
        ),
        Action(
            "cancel_job",
            "Cancel",
            "job",
            "x",
            "{} {} cancelled.",
            Asks.ALWAYS,
            ("What it has done stays.",),
            partial(_on_jobs, JOB_STEPS["cancel"]),
        ),
        Action(
            "drop",
            "Drop",
            "dead letter",
            "trash",
            "{} {} dropped.",
            Asks.ALWAYS,
            (
                "This cannot be undone.",
                "The media items stay FAILED.",
                "The uploads are removed once they are old enough.",
            ),
            partial(_on_dead_letters, DeadLetters.drop),
            is_final=True,
        ),
        Action(
            "delete",
            "Delete",
            "media item",
            "trash",
            "{} {} being deleted: gone from the origin within seconds.",
            Asks.ALWAYS,
            (
                "The origin answers 410 within seconds, and the CDN is purged.",
                f"The objects are removed in {duration(delete_delay_s)}. Until then the deletion can be undone.",
            ),
            _delete,
        ),
        Action(
            "undelete",
            "Undelete",
            "media item",
            "undo",
            "{} {} served again.",
            Asks.NEVER,
            (),
            _undelete,
        ),
        Action(
            "pause",
            "Pause",
            "queue",
            "pause",
            "{} {} paused: workers finish what they have, everything else waits.",
            Asks.ALWAYS,
            (
                "No more tasks are given out until it is resumed.",
                "Nothing is lost: what comes in waits.",
                "If Redis loses its data, the pause is lost, too.",
            ),
            _pause,
        ),
        Action("resume", "Resume", "queue", "play", "{} {} resumed.", Asks.NEVER, (), _resume),
        Action(
            "block",
            "Block",
            "media item",
            "ban",
            "{} {} blocked, with the known copies.",
            Asks.ALWAYS,
            (
                "The origin answers 451 at once, and the CDN is purged.",
                "The same file is refused from now on, and its known copies are blocked with it.",
                f"The files are kept as evidence for {duration(evidence_ttl_s)}. The block can be lifted.",
            ),
            _block,
            takes_note=True,
        ),
        Action(
            "unblock",
            "Unblock",
            "media item",
            "undo",
            "{} {} not blocked any more.",
            Asks.MANY,
            ("They are served again, and the same file is accepted again.",),
            _unblock,
        ),
        Action(
            "release",
            "Release",
            "media item",
            "check",
            "{} {} released: processed and published.",
            Asks.MANY,
            ("They are processed and published.",),
            _release,
        ),
        Action(
            "cancel",
            "Cancel",
            "task",
            "x",
            "{} {} cancelled: it ends as a dead letter, at its next turn or when its worker renews its lease.",
            Asks.ALWAYS,
            ("It becomes a dead letter with the reason cancelled, which can be replayed.", "The upload is kept."),
            _cancel,
        ),
        Action(
            "list",
            "Add",
            "hash",
            "plus",
            "{} {} on the own block list. Files with it are refused from now on.",
            Asks.NEVER,
            (),
            _add_entries,
            targets_of=_entry_of,
        ),
        Action(
            "unlist",
            "Remove",
            "hash",
            "trash",
            "{} {} off the own block list.",
            Asks.ALWAYS,
            (
                "Files with this hash are accepted again, unless another entry has it.",
                "Media that are blocked stay blocked.",
            ),
            _remove_entries,
        ),
        Action(
            "kill",
            "Kill",
            "node",
            "x",
            "{} {} killed: the supervisor starts it again.",
            Asks.NEVER,
            (),
            _kill,
        ),
    )
    return {row.name: row for row in rows}


async def _on_dead_letters(
    step: Callable[[DeadLetters, str], Awaitable[bool]], service: Service, targets: Sequence[str]
) -> Outcome:
    """Take a step with each dead letter. Report those that are no longer there as a problem."""
    gone: list[str] = []

    async def take(target: str) -> None:
        parsed = parse_key(target)
        if parsed is None or not await step(TaskQueue(service.runtime.redis, parsed[0]).dead_letters, parsed[1]):
            gone.append(target)

    await in_turn([partial(take, each) for each in targets], _AT_ONCE)
    problem = (f"{many(len(gone), 'dead letter')} {'is' if len(gone) == 1 else 'are'} no longer there",) if gone else ()
    return Outcome(len(targets) - len(gone), problem)


async def _replay_all(service: Service, targets: Sequence[str]) -> Outcome:
    """Begin a job for each queue. A target is made by `bulk_target`: a queue and, as a query, the conditions."""
    problems = []
    for target in targets:
        queue, _, query = target.partition("?")
        wanted = DeadLetterFilter.from_fields(dict(parse_qsl(query)))
        jobs = BulkJobs(service.runtime.redis, queue)
        if await jobs.begin_replay(wanted, rate=service.rate, by=service.who) is None:
            problems.append(f"{queue}: an earlier bulk replay is not done yet")
    return Outcome(len(targets) - len(problems), tuple(problems))


async def _undelete_all(service: Service, targets: Sequence[str]) -> Outcome:
    """Begin a job for the first owner, because only one such job runs at a time."""
    owner = targets[0]
    if not is_owner(owner):
        return Outcome(0, (f"{owner[:80]} is not an owner",))
    jobs = BulkJobs(service.runtime.redis, DELETE_QUEUE)
    begun = await jobs.begin_undelete(owner=owner, rate=service.rate, by=service.who)
    return Outcome(1) if begun is not None else Outcome(0, ("an earlier bulk undelete is not done yet",))


async def _on_jobs(step: JobStep, service: Service, targets: Sequence[str]) -> Outcome:
    problems = []
    for name in targets:
        found = find_jobs(service.runtime.redis, name)
        if found is None:
            problems.append(f"there is no job {name[:80]}")
        elif not await step.take(*found):
            problems.append(f"{name} {step.refusal}")
    return Outcome(len(targets) - len(problems), tuple(problems))


def bulk_target(queue: str, wanted: DeadLetterFilter) -> str:
    """Return the target of `replay_all` for a queue."""
    return f"{queue}?{urlencode(wanted.to_fields())}"


async def _delete(service: Service, targets: Sequence[str]) -> Outcome:
    """Delete as the post service does: by an event on the stream `drop_deleted`."""
    ids, problems = _read_ids(targets)
    if ids:
        event = json.dumps({"media_ids": ids})
        await service.runtime.redis.execute("XADD", DROP_DELETED, "*", "event", event)
    return Outcome(len(ids), problems)


async def _undelete(service: Service, targets: Sequence[str]) -> Outcome:
    ids, problems = _read_ids(targets)
    runtime = service.runtime
    found = await undelete(runtime.replay, [parse_any_id(each) for each in ids])
    refused = tuple(f"{media_id}: {problem}" for media_id, problem in found.items() if problem is not None)
    return Outcome(len(ids) - len(refused), problems + refused)


async def _pause(service: Service, targets: Sequence[str]) -> Outcome:
    return await _on_queues(TaskQueue.pause, service, targets)


async def _resume(service: Service, targets: Sequence[str]) -> Outcome:
    return await _on_queues(TaskQueue.resume, service, targets)


async def _cancel(service: Service, targets: Sequence[str]) -> Outcome:
    problems = []
    for target in targets:
        name, _, task_id = target.partition("/")
        queue = service.runtime.items.queues.get(name)
        if queue is None or not task_id or name in NEVER_GIVEN_UP:
            problems.append(f"{target[:80]} cannot be cancelled")
        else:
            await queue.cancel(task_id, service.who)
    return Outcome(len(targets) - len(problems), tuple(problems))


async def _on_queues(
    step: Callable[[TaskQueue], Awaitable[object]], service: Service, targets: Sequence[str]
) -> Outcome:
    queues = service.runtime.items.queues
    known = [each for each in targets if each in queues]
    for name in known:
        await step(queues[name])
    return Outcome(len(known), tuple(f"there is no queue {each[:80]}" for each in targets if each not in queues))


async def _block(service: Service, targets: Sequence[str]) -> Outcome:
    blocking = service.runtime.moderation.blocking
    return await _on_media(lambda any_id: blocking.block(any_id, Unwanted(by=service.who, note=service.note)), targets)


async def _unblock(service: Service, targets: Sequence[str]) -> Outcome:
    blocking = service.runtime.moderation.blocking
    return await _on_media(lambda any_id: blocking.unblock(any_id, service.who), targets)


async def _release(service: Service, targets: Sequence[str]) -> Outcome:
    reviews = service.runtime.moderation.reviews
    return await _on_media(lambda any_id: reviews.release(any_id, service.who), targets)


async def _on_media(step: Callable[[AnyId], Awaitable[object]], targets: Sequence[str]) -> Outcome:
    """Take a step with each media item. Report those whose state does not allow it as problems."""
    ids, found = _read_ids(targets)
    problems = list(found)
    for media_id in ids:
        try:
            await step(parse_any_id(media_id))
        except NotBlocked:
            problems.append(f"{media_id} is not blocked")
        except NotHeld:
            problems.append(f"{media_id} does not wait for a moderator")
        except UnreadableRecord as error:
            problems.append(f"the {error.kind} record of {media_id} cannot be read: {error.why}")
    return Outcome(len(targets) - len(problems), tuple(problems))


def _entry_of(form: Form) -> Sequence[str]:
    """Return the line of a block list that the fields of a form describe."""
    digest = (form.get("hash") or "").strip().lower()
    label = " ".join((form.get("label") or "").replace('"', "'").split())
    return [f'{form.get("type")},{digest},"{label}"'] if digest else []


async def _add_entries(service: Service, targets: Sequence[str]) -> Outcome:
    return await _on_entries(service.runtime.moderation.lists.add_own, targets, "on the list already")


async def _remove_entries(service: Service, targets: Sequence[str]) -> Outcome:
    return await _on_entries(service.runtime.moderation.lists.remove_own, targets, "no longer on the list")


async def _on_entries(step: Callable[[Entry], Awaitable[bool]], targets: Sequence[str], otherwise: str) -> Outcome:
    problems = []
    for target in targets:
        try:
            entry = parse_entry(target)
        except InvalidEntry as error:
            problems.append(str(error))
            continue
        if not await step(entry):
            problems.append(f"{short(entry.hash.hex())} is {otherwise}")
    return Outcome(len(targets) - len(problems), tuple(problems))


async def _kill(service: Service, targets: Sequence[str]) -> Outcome:
    problems = []
    for path in targets:
        try:
            killed = service.tree.kill(path)
        except LookupError:
            killed = False
        if not killed:
            problems.append(f"{path} does not run")
    return Outcome(len(targets) - len(problems), tuple(problems))


def _read_ids(targets: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    ids, problems = [], []
    for target in targets:
        try:
            ids.append(str(parse_any_id(target)))
        except InvalidId:
            problems.append(f"{target[:80]} is not a media id")
    return ids, tuple(problems)
