"""The table of all actions of people. A new action is a row here, and one function that carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from avion_media.backends.queue import BulkJobs, DeadLetters
from avion_media.common.credentials import Person, Role
from avion_media.common.errors import Dependency, Unavailable
from avion_media.items.moderation import Blocklists
from avion_media.operations import evidence, hosts, media, queues
from avion_media.operations.operation import (
    REFUSALS,
    Asks,
    Facts,
    NoSuchTarget,
    NotAllowed,
    Operation,
    Order,
    Outcome,
    Refused,
    Work,
    code_of,
    each,
)
from avion_media.process.audit import OK, AuditRecord
from avion_media.process.audit.reading import AuditQuery, read
from avion_media.process.audit.record import drafts
from avion_media.process.runtime import Runtime
from trio_telemetry import get_logger

EVENT: Final = "operator.action"
_RECORD_S: Final = 10.0  # a write that waits for another one, and its own
_log = get_logger()
_AT_ONCE: Final = 16


async def _kill(runtime: Runtime, _order: Order, target: str) -> Facts:
    """Crash a node of this process."""
    try:
        killed = runtime.kill is not None and runtime.kill(target)
    except LookupError:
        raise NoSuchTarget("no such node") from None
    if not killed:
        raise Refused("it does not run")
    return {"path": target, "killed": True}


_ROWS: Final = (
    Operation(
        "replay",
        "Replay",
        "dead letter",
        "replay",
        "{} {} queued again.",
        each(queues.on_dead_letter(DeadLetters.replay), at_once=_AT_ONCE),
        undo="cancel",
        asks=Asks.MANY,
        follows=(
            "The dead letters go back to their queues with all attempts open.",
            "Tasks whose media item was deleted meanwhile end at once.",
            "If the cause remains, the tasks become dead letters again.",
        ),
    ),
    Operation(
        "replay_all",
        "Replay all of",
        "queue",
        "replay",
        "{} {} replayed in bulk: see the page about queues.",
        each(queues.begin_replay),
        undo="cancel_job",
        asks=Asks.ALWAYS,
        follows=(
            "The dead letters that match go back to their queues, oldest first, with all attempts open.",
            "Tasks that fail from now on are not affected.",
            "The job can be paused and cancelled on the page about queues.",
        ),
        is_job=True,
    ),
    Operation(
        "undelete_all",
        "Undelete all media of",
        "owner",
        "undo",
        "The deleted media are undeleted in bulk: see the page about queues.",
        queues.begin_undelete,
        undo="cancel_job",
        asks=Asks.ALWAYS,
        follows=(
            "Media whose removal has not begun are served again.",
            "The job can be paused and cancelled on the page about queues.",
        ),
        is_job=True,
    ),
    Operation(
        "pause_job",
        "Pause",
        "job",
        "pause",
        "{} {} paused.",
        each(queues.on_job(BulkJobs.pause, "paused", "it is not running")),
        undo="resume_job",
    ),
    Operation(
        "resume_job",
        "Resume",
        "job",
        "play",
        "{} {} resumed.",
        each(queues.on_job(BulkJobs.resume, "resumed", "it is not paused")),
        undo="pause_job",
    ),
    Operation(
        "cancel_job",
        "Cancel",
        "job",
        "x",
        "{} {} cancelled.",
        each(queues.on_job(BulkJobs.cancel, "cancelled", "it is neither running nor paused")),
        asks=Asks.ALWAYS,
        follows=("The changes that the job has made stay.",),
    ),
    Operation(
        "drop",
        "Drop",
        "dead letter",
        "trash",
        "{} {} dropped.",
        each(queues.on_dead_letter(DeadLetters.drop), at_once=_AT_ONCE),
        asks=Asks.ALWAYS,
        follows=(
            "This cannot be undone.",
            "The media items stay FAILED.",
            "The uploads are removed once they are old enough.",
        ),
        is_final=True,
    ),
    Operation(
        "delete",
        "Delete",
        "media item",
        "trash",
        "{} {} being deleted: gone from the origin within seconds.",
        media.delete,
        undo="undelete",
        asks=Asks.ALWAYS,
        follows=(
            "The origin answers 410 within seconds, and the CDN is purged.",
            "The objects are removed in {delete_delay}. Until then the deletion can be undone.",
        ),
    ),
    Operation(
        "undelete",
        "Undelete",
        "media item",
        "undo",
        "{} {} served again.",
        media.restore,
        undo="delete",
    ),
    Operation(
        "process_again",
        "Process",
        "media item",
        "replay",
        "{} {} queued: the thumbnails are made again, and the CDN is purged.",
        each(media.process_again, at_once=_AT_ONCE),
        undo="nothing is lost: the original stays as it is",
        asks=Asks.MANY,
        follows=("The thumbnails are made again from the original, and the CDN is purged.",),
    ),
    Operation(
        "pause",
        "Pause",
        "queue",
        "pause",
        "{} {} paused: workers finish what they have, everything else waits.",
        each(queues.pause),
        undo="resume",
        asks=Asks.ALWAYS,
        follows=(
            "No task is started until the queue is resumed.",
            "No task is lost: new tasks wait.",
            "If Redis loses its data, the pause is lost, too.",
        ),
        takes=("note", "for_s"),
    ),
    Operation(
        "resume",
        "Resume",
        "queue",
        "play",
        "{} {} resumed.",
        each(queues.resume),
        undo="pause",
    ),
    Operation(
        "block",
        "Block",
        "media item",
        "ban",
        "{} {} blocked, with the known copies.",
        each(media.block),
        undo="unblock",
        asks=Asks.ALWAYS,
        follows=(
            "The origin answers 451 at once, and the CDN is purged.",
            "The same file is refused from now on, and its known copies are blocked with it.",
            "The files are kept as evidence for {evidence_keep}. The block can be lifted.",
        ),
        takes=("note", "ground", "requested_at"),
        right=Role.MODERATOR,
    ),
    Operation(
        "refuse",
        "Block",
        "held media item",
        "ban",
        "{} {} blocked, with the known copies.",
        each(media.refuse),
        undo="unblock",
        right=Role.MODERATOR,
    ),
    Operation(
        "unblock",
        "Unblock",
        "media item",
        "undo",
        "{} {} not blocked any more.",
        each(media.unblock),
        undo="block",
        asks=Asks.ALWAYS,
        follows=(
            "The media item and its copies are served again, and the same file is accepted again.",
            "Only where the block was made without evidence can nothing be restored: then the media item is unknown.",
        ),
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "block_host",
        "Block",
        "host",
        "ban",
        "{} {} blocked: nothing is fetched any more.",
        each(hosts.block),
        undo="unblock_host",
        asks=Asks.ALWAYS,
        follows=(
            "Nothing more is fetched from the host. Hosts below it are covered too, except by =NAME and by an address.",
            "Copies of its files stay until they expire, unless you purge the copies as well.",
        ),
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "unblock_host",
        "Unblock",
        "host",
        "undo",
        "{} {} not blocked any more.",
        each(hosts.unblock),
        undo="block_host",
        asks=Asks.ALWAYS,
        follows=("Files of the host are fetched again when they are requested.",),
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "purge_host",
        "Purge",
        "host",
        "trash",
        "{} {} purged in bulk: see the page about queues.",
        each(hosts.purge),
        undo="cancel_job",
        asks=Asks.ALWAYS,
        follows=(
            "The copies of its files are removed from the origin, and the CDN is purged.",
            "Unless the host is blocked, its files are fetched again when they are requested.",
        ),
        takes=("note",),
        is_job=True,
        right=Role.MODERATOR,
    ),
    Operation(
        "release",
        "Release",
        "media item",
        "check",
        "{} {} released: processed and published.",
        each(media.release),
        undo="block",
        asks=Asks.ALWAYS,
        follows=("The held file is processed and published.", "Lists and hook do not check this file again."),
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "look",
        "Show",
        "preview",
        "media",
        "{} {} shown.",
        each(media.look),
        undo="nothing was changed",
        right=Role.MODERATOR,
    ),
    Operation(
        "export_evidence",
        "Download",
        "archive of evidence",
        "down",
        "The evidence of a media item is handed out.",
        each(evidence.collect),
        undo="nothing was changed",
        right=Role.MODERATOR,
    ),
    Operation(
        "hold_evidence",
        "Hold",
        "evidence",
        "lock",
        "The report is recorded, and the evidence is kept.",
        each(evidence.hold),
        undo="dismiss",
        asks=Asks.ALWAYS,
        follows=(
            "The report is recorded with its time. The files are kept for {evidence_keep}, or until a later date.",
            "If it is not blocked, it is in the list of notices until it is blocked or the notice is dismissed.",
        ),
        takes=("note", "until", "requested_at"),
        right=Role.MODERATOR,
    ),
    Operation(
        "discard_evidence",
        "Discard",
        "evidence",
        "trash",
        "The evidence is discarded.",
        each(evidence.discard),
        asks=Asks.ALWAYS,
        follows=(
            "This cannot be undone. If the media item is blocked, an unblock cannot restore it.",
            "Before the evidence has reached its end, this needs the right evidence, and a reason.",
        ),
        is_final=True,
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "dismiss",
        "Dismiss",
        "notice",
        "check",
        "{} {} dismissed.",
        each(evidence.dismiss),
        undo="hold_evidence",
        asks=Asks.ALWAYS,
        follows=("The media item stays as it is. Its evidence stays until its time.",),
        takes=("note",),
        right=Role.MODERATOR,
    ),
    Operation(
        "cancel",
        "Cancel",
        "task",
        "x",
        "{} {} cancelled: ends as a dead letter at the next turn, or when a worker renews the lease.",
        each(queues.cancel),
        undo="replay",
        asks=Asks.ALWAYS,
        follows=(
            "The task becomes a dead letter with the reason cancelled. An operator can replay it.",
            "The upload is kept. While the queue is paused, no task has a turn.",
        ),
    ),
    Operation(
        "list",
        "Add",
        "hash",
        "plus",
        "{} {} on the own block list. It applies to new files.",
        each(media.on_own_entry(Blocklists.add_own, "it is on the list already")),
        undo="unlist",
        right=Role.MODERATOR,
    ),
    Operation(
        "unlist",
        "Remove",
        "hash",
        "trash",
        "{} {} off the own block list.",
        each(media.on_own_entry(Blocklists.remove_own, "it is no longer on the list")),
        undo="list",
        asks=Asks.ALWAYS,
        follows=(
            "Files with this hash are accepted again, unless another entry has it.",
            "Media that are blocked stay blocked.",
        ),
        right=Role.MODERATOR,
    ),
    Operation(
        "kill",
        "Kill",
        "node",
        "x",
        "{} {} killed: the supervisor starts it again.",
        each(_kill),
        undo="the supervisor starts it again",
        needs_log=False,
    ),
    Operation(
        "import_list",
        "Import",
        "block list",
        "plus",
        "{} {} imported.",
        undo="import an empty list of the same name",
    ),
    Operation(
        "import_media",
        "Import",
        "media item",
        "plus",
        "{} {} imported or there already.",
        undo="delete",
    ),
    Operation(
        "rotate_tokens",
        "Rotate",
        "key of tokens",
        "replay",
        "A key was added, which signs tokens of private media in a minute.",
        each(media.rotate_tokens),
        undo="rotate again: earlier keys go on verifying what they have signed",
    ),
    Operation(
        "export_owner",
        "Export",
        "owner",
        "down",
        "The media of an owner are handed out.",
        undo="nothing was changed",
    ),
    Operation("sweep", "Sweep", "bucket", "trash", "{} {} swept."),
    Operation("init", "Prepare", "bucket", "plus", "{} {} prepared.", needs_log=False),
)
OPERATIONS: Final = {row.name: row for row in _ROWS}


@dataclass(frozen=True, slots=True)
class Operations:
    """Carries out the actions of people on one service, by one entrance, and records each."""

    runtime: Runtime
    entrance: str

    @property
    def allowed(self) -> dict[str, Operation]:
        """The actions of this process, by name: `kill` only with ``CHAOS__ENABLED``."""
        may_kill = self.runtime.kill is not None
        return {name: row for name, row in OPERATIONS.items() if may_kill or name != "kill"}

    def require(self, name: str, who: Person) -> None:
        """Raise `NotAllowed`, which is recorded, unless the person has a role with the right to an action."""
        try:
            OPERATIONS[name].require(who)
        except NotAllowed as error:
            self.note_refusal(name, who, code_of(error))
            raise

    def note_refusal(self, name: str, who: Person, code: str) -> None:
        """Record that an entrance refused an action by itself."""
        self.runtime.audit.refuse(self.entrance, who.name, name, code)

    async def carry_out(
        self, name: str, order: Order, work: Work | None = None, code: Callable[[BaseException], str] = code_of
    ) -> Outcome:
        """Carry out one action, and record it. ``work`` does it for a row that leaves that to its command, or for a
        call; ``code`` returns the code of an error of it.

        Nothing is done while the bucket takes no records. The record is in the bucket before this returns; if that
        fails, the action was carried out, `Unavailable` is raised, and the record is written later.

        An action that ends with an error or a cancel might have changed some targets. It is recorded as not completed,
        and the error is raised. Raises `Unavailable`, and `NotAllowed`.
        """
        row = OPERATIONS[name]
        self.require(name, order.who)
        if row.needs_log:
            await self.runtime.audit.require()
        perform = work or partial(row.perform or _missing, self.runtime, order)
        try:
            outcome = await perform()
        except BaseException as error:
            cause = "it was interrupted" if isinstance(error, trio.Cancelled) else str(error) or type(error).__name__
            with suppress(Unavailable):  # the first error matters more
                await self._record(name, order, order.targets, code(error), f"Not completed: {cause}")
            raise
        problem = next(iter(outcome.problems.values()), None)
        verdict = OK if outcome.done or problem is None else code(problem)
        about = {target: f" ({facts['about']})" for target, facts in outcome.done.items() if facts.get("about")}
        targets = [each + about.get(each, "") for each in order.targets]
        try:
            entry = await self._record(name, order, targets, verdict, row.result(outcome))
        except Unavailable:
            if row.needs_log:
                raise
            return outcome
        return replace(outcome, entry=entry)

    async def _record(self, name: str, order: Order, targets: Sequence[str], verdict: str, result: str) -> AuditRecord:
        """Record an action. What was refused, and changed nothing, is only counted."""
        log, who = self.runtime.audit, order.who.name
        note = f"{result} Note: {order.note}" if order.note else result
        records = list(drafts(self.entrance, who, name, targets, outcome=verdict, note=note, trace=log.trace()))
        entry = records[0]
        _log.info(EVENT, **entry.shown())
        if verdict in REFUSALS:
            log.refuse(self.entrance, who, name, verdict, next(iter(targets), ""))
            return entry
        # Shielded, so that an action that was interrupted, or that killed its own door, is in the audit log as well.
        # Bounded by `_RECORD_S`; a write that runs then is waited for, as the store's adapter says.
        with trio.CancelScope(shield=True):
            try:
                with trio.fail_after(_RECORD_S):
                    await log.record(records)
            except trio.TooSlowError:
                raise Unavailable(Dependency.STORE, "the audit log was not written in time") from None
        return entry

    async def recorded(self, query: AuditQuery, before: str = "") -> tuple[list[AuditRecord], str]:
        """Return a page of the audit log as `read` does. Its text can also be the words on a button."""
        shown = {name: f"{row.verb} {row.noun}".casefold() for name, row in OPERATIONS.items()}
        words = [name for name, words in shown.items() if query.text and query.text.casefold() in words]
        return await read(self.runtime.store, replace(query, words=words), before)


async def _missing(_runtime: Runtime, _order: Order) -> Outcome:
    raise LookupError("this action is carried out by its command only")
