"""A state machine of one medium around the real scripts: notices, listeners, undeletes, removals, attempts, sweeps.

Everything that decides is the service's own: `DeletionRecords` and `StatusStore` on a real Redis. The machine plays the
processes around them, each of which can stop for as long as it likes between two of its steps, or die. Time is moved by
hand: a deletion is due when the machine says so.

``broken`` names one rule that the machine, or a script, breaks on purpose: see `BREAKS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import redis as redis_py
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from avion_media.backends.redis import Redis, Script
from avion_media.common.tasks import DROP_DELETED, State, Status
from avion_media.items.deletion import DeletionRecord, DeletionRecords, DeletionState, Mark, Undelete, scripts
from avion_media.items.deletion.channel import write_heard
from avion_media.items.deletion.notices import HEARD
from avion_media.items.deletion.records import LAST_UNDELETE, completeness_of
from avion_media.items.state import StatusStore
from avion_media.items.state.status_store import deletion_key

T = TypeVar("T")

MEDIUM = "m"
HOUR_S = 3600.0
GONE = (DeletionState.REMOVING, DeletionState.REMOVED)
PLACES = st.integers(0, 5)
MAX_DELETES, MAX_UNDELETES, MAX_CRASHES, MAX_REPLAYS, MAX_LOSSES = 2, 2, 3, 1, 1

BREAKS: dict[str, tuple[Script, str, str]] = {
    "positions": (scripts.MARK, "(position ~= '' and not is_after(position, through))", "false"),
    "lower bound": (scripts.MARK, "(lower ~= '' and tonumber(lower) < tonumber(undeleted_at))", "false"),
    "generation": (scripts.MARK, "whole(math.max(now, (tonumber(generation) or 0) + 1))", "'1'"),
    "due time": (scripts.BEGIN_REMOVAL, "if left_ms > 0 then", "if false then"),
    "incomplete": (scripts.BEGIN_REMOVAL, "if not is_complete(KEYS[2]) then", "if false then"),
    "newer deletion": (
        scripts.RESTORE,
        "if tonumber(journaled) > generation then",
        "if not state or state == 'undeleted' and tonumber(journaled) > generation then",
    ),
}
"""Rules of the scripts, and what each becomes when it is broken."""
BROKEN_JOURNAL = "journal order"
OF_A_LOSS = (BROKEN_JOURNAL, "newer deletion", "incomplete")
BROKEN_ELSEWHERE = ("receipt time", BROKEN_JOURNAL)


class _Answering:
    """The part of `Redis` that the records and statuses use, answered at once: no wait needs an event loop."""

    def __init__(self, client: Any, broken: str) -> None:
        self.changes = 0
        self.state = self
        self._process = client.info("server")["run_id"]
        self._client = client
        self._edited: dict[str, str] = {}
        if broken in BREAKS:
            script, rule_text, instead = BREAKS[broken]
            assert rule_text in script.source
            self._edited[script.name] = script.source.replace(rule_text, instead)

    async def execute(self, *command: Any, **options: Any) -> Any:
        return self._client.execute_command(*command)

    async def is_cluster(self) -> bool:
        return False

    async def grouped(self, keys: Sequence[str], _most: int) -> list[list[str]]:
        return [list(keys)]

    run_in_groups = Redis.run_in_groups

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any] = (), **_more: Any) -> Any:
        self.changes += script is not scripts.READ
        source = self._edited.get(script.name, script.source)
        sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        if script.takes_process:
            args = (*args, self._process)
        try:
            return self._client.execute_command("EVALSHA", sha1, len(keys), *keys, *args)
        except redis_py.exceptions.NoScriptError:
            return self._client.execute_command("EVAL", source, len(keys), *keys, *args)


def now(call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("it waits")


@dataclass
class _Handling:
    """A notice that is being handled: its medium is marked, and the rest is to be done."""

    issued: dict[str, Any]
    epoch: int
    mark: Mark | None
    journaled: bool = False


class _Listener:
    """One subscription to the channels: what is on its way to it, and what it received before."""

    def __init__(self, lower_bound_ms: int) -> None:
        self.lower_bound_ms = lower_bound_ms
        self.on_the_way: list[int | None] = []  # the time of an undelete, or None for a notice
        self.in_hand: int | None = None  # the lower bound of a notice that it has received and not written


def machine_of(url: str, broken: str = "") -> type[RuleBasedStateMachine]:
    """The state machine on an empty server at ``url``."""
    client: Any = redis_py.Redis.from_url(url)

    class Machine(_Deletions):
        def __init__(self) -> None:
            super().__init__(client, broken)

    return Machine


class _Deletions(RuleBasedStateMachine):
    def __init__(self, client: Any, broken: str) -> None:
        super().__init__()
        client.flushdb()
        self.client = client
        self.broken = broken
        self._answering = _Answering(client, broken)
        self._seen: tuple[int, DeletionRecord | None] = (-1, None)
        self._seen_heard: tuple[int, dict[str, int]] = (-1, {})
        redis = cast("Redis", self._answering)
        self.records = DeletionRecords(redis)
        self.status_store = StatusStore(redis)
        self.intent = ""  # what the users want in the end: deleted, deleted (channel), undeleted, either
        self.deletes, self.undeletes, self.crashes, self.replays = MAX_DELETES, MAX_UNDELETES, MAX_CRASHES, MAX_REPLAYS
        self.losses = MAX_LOSSES
        self.loss_at_the_end: int | None = None  # which of its entries the replay restores first then
        self.replaying: list[int] | None = None  # places of the journal that the replay has not restored yet
        self.epoch = 0  # grows with each loss of all data
        self.journal: list[Mark | tuple[int, Undelete]] = []
        self.positions: list[str] = []
        self.pending: list[str] = []
        self.reader: tuple[str, _Handling] | None = None
        self.disconnected = False
        self.undelete: tuple[int, Undelete] | None = None
        self.undelete_is_committed = False
        self.due: set[int] = set()
        self.tasks: set[int] = set()
        self.remover: tuple[str, int, int] | None = None  # its next step, the generation, and the epoch when it began
        self.is_there = False
        self.ready = False
        self.processing = 1
        self.attempts = ["idle", "idle"]
        self.looked = [(0, 0), (0, 0)]  # generation and epoch when each read the record
        self.listeners: list[_Listener] = []
        if broken in OF_A_LOSS:  # the medium is ready, and nobody dies: such a rule is found sooner
            self.crashes = self.replays = self.processing = 0
            self.is_there = self.ready = True

    @initialize(loses_all=st.booleans(), which=PLACES)
    def subscribe(self, loses_all: bool, which: int) -> None:
        self.loss_at_the_end = which if loses_all else None
        subscribed_ms = self._now_ms()
        self.listeners = [_Listener(subscribed_ms), _Listener(subscribed_ms)]
        self.client.execute_command("XGROUP", "CREATE", DROP_DELETED, "g", "0", "MKSTREAM")
        _note_complete(self.client)

    @rule()
    def rest(self) -> None:
        """Nothing happens: there is always a next step."""

    # -- the record

    @property
    def record(self) -> DeletionRecord | None:
        if self._seen[0] != self._answering.changes:
            self._seen = self._answering.changes, now(self.records.get(MEDIUM))
        return self._seen[1]

    @property
    def state(self) -> DeletionState | None:
        return None if self.record is None else self.record.state

    @property
    def generation(self) -> int:
        return 0 if self.record is None else self.record.generation

    @property
    def is_deleted(self) -> bool:
        return self.state not in (None, DeletionState.UNDELETED)

    def _now_ms(self) -> int:
        return int(now(self._answering.run(scripts.NOW, (LAST_UNDELETE,))))

    def _mark(self, **issued: Any) -> _Handling:
        marks = now(self.records.mark([MEDIUM], delay_s=HOUR_S, **issued))
        return _Handling(issued, self.epoch, marks[0] if marks else None)

    def _journal_mark(self, handling: _Handling) -> None:
        handling.journaled = True
        if handling.mark is not None:
            is_due = handling.mark.generation in self.due
            self.journal.append(replace(handling.mark, due_ms=0) if is_due else handling.mark)

    def _is_done(self, handling: _Handling) -> bool:
        """Whether nothing was lost since the medium was marked; else it is marked once more, after the replay."""
        if handling.epoch == self.epoch:
            return True
        if self.replaying is not None:
            return False
        again = self._mark(**handling.issued)
        handling.epoch, handling.mark, handling.journaled = again.epoch, again.mark, False
        return False

    # -- users

    @precondition(lambda self: self.deletes)
    @rule(stream=st.booleans(), channel=st.booleans())
    def delete(self, stream: bool, channel: bool) -> None:
        if not stream and not channel:
            return
        self.deletes -= 1
        if stream:
            position = self.client.xadd(DROP_DELETED, {"event": "x"}).decode()
            self.positions.append(position)
            self.pending.append(position)
        if channel:
            for listener in self.listeners:
                listener.on_the_way.append(None)
        self.intent = "deleted" if stream or self.intent == "deleted" else "deleted (channel)"

    @precondition(lambda self: self._can_undelete())
    @rule()
    def undelete_issues(self) -> None:
        self.undeletes -= 1
        self.undelete = self.generation, now(self.records.issue_undelete())
        self.undelete_is_committed = False
        for listener in self.listeners:
            listener.on_the_way.append(self.undelete[1].at_ms)

    def _can_undelete(self) -> bool:
        is_free = self.undelete is None and self.replaying is None
        return is_free and self.undeletes > 0 and self.state is DeletionState.MARKED

    @precondition(lambda self: self.undelete is not None and not self.undelete_is_committed)
    @rule()
    def undelete_commits(self) -> None:
        assert self.undelete is not None
        generation, issued = self.undelete
        if not now(self.records.undelete({MEDIUM: generation}, issued)):
            self.undelete = None
            return
        self.undelete_is_committed = True
        record = now(self.records.get(MEDIUM))
        assert record is not None
        through = _order(record.undeleted_through)
        late = (
            any(_order(each) > through for each in self.pending)
            or any(each >= issued.at_ms for each in self._heard().values())
            or any(self._is_later(listener, issued.at_ms) for listener in self.listeners)
        )
        self.intent = "either" if late else "undeleted"
        if not self.ready:
            self.processing = min(2, self.processing + 1)

    @staticmethod
    def _is_later(listener: _Listener, at_ms: int) -> bool:
        return None in _after(listener.on_the_way, at_ms) or (listener.in_hand or 0) >= at_ms

    @precondition(lambda self: self.undelete is not None and self.undelete_is_committed)
    @rule()
    def undelete_is_journaled(self) -> None:
        assert self.undelete is not None
        if self.broken != "journal order":
            self.journal.append(self.undelete)
        self.undelete = None

    @precondition(lambda self: self.undelete is not None and self.crashes)
    @rule()
    def undelete_dies(self) -> None:
        self.crashes -= 1
        self._undelete_ends_halfway()

    def _undelete_ends_halfway(self) -> None:
        """Nobody was told that it is done, and a loss of all data can delete the medium again."""
        if self.undelete_is_committed and self.intent == "undeleted":
            self.intent = "either"
        self.undelete = None

    # -- the streams

    def _heard(self) -> dict[str, int]:
        """The lower bounds of the notices that were written by listeners, and not acknowledged, by id."""
        if self._seen_heard[0] != self._answering.changes:
            entries = self.client.xrange(HEARD)  # their ids can be those of entries of the other stream
            heard = {f"heard {name.decode()}": int(fields[b"lower_bound"]) for name, fields in entries}
            self._seen_heard = self._answering.changes, heard
        return self._seen_heard[1]

    def _waiting(self) -> list[str]:
        return [*self.pending, *self._heard()]

    @precondition(lambda self: self.reader is None and self.replaying is None and self._waiting())
    @rule(which=st.integers(0, 3))
    def read(self, which: int) -> None:
        heard, waiting = self._heard(), self._waiting()
        entry = waiting[which % len(waiting)]
        issued: dict[str, Any] = {"lower_bound_ms": heard[entry]} if entry in heard else {"position": entry}
        self.reader = entry, self._mark(**issued)

    @precondition(lambda self: self.reader is not None and not self.reader[1].journaled)
    @rule()
    def journal_notice(self) -> None:
        assert self.reader is not None
        if self.broken == "journal order":
            self.reader[1].journaled = True
        else:
            self._journal_mark(self.reader[1])

    @precondition(lambda self: self.reader is not None and self.reader[1].journaled)
    @rule()
    def acknowledge(self) -> None:
        assert self.reader is not None
        entry, handling = self.reader
        if not self._is_done(handling):
            return
        if handling.mark is not None:
            self.tasks.add(handling.mark.generation)
        if entry in self.pending:
            self.pending.remove(entry)
        if "position" not in handling.issued:
            self.client.xdel(HEARD, entry.removeprefix("heard "))
            self._answering.changes += 1
        self.reader = None

    @precondition(lambda self: self.reader is not None and self.crashes)
    @rule()
    def reader_dies(self) -> None:
        self.crashes -= 1
        assert self.reader is not None
        if self.reader[0] not in self._waiting():  # its stream is lost, and nobody else has read it
            self.intent = "either"
        self.reader = None

    @precondition(lambda self: bool(self.replays and set(self.positions) - set(self.pending)))
    @rule(which=st.integers(0, 3))
    def group_is_lost(self, which: int) -> None:
        read = [each for each in self.positions if each not in self.pending]
        self.replays -= 1
        self.pending.append(read[which % len(read)])

    # -- the channel

    @precondition(lambda self: self.replaying is None and self._is_on_the_way())
    @rule(which=st.integers(0, 1))
    def receive(self, which: int) -> None:
        ready = [each for each in self.listeners if each.on_the_way and each.in_hand is None]
        listener = ready[which % len(ready)]
        message = listener.on_the_way.pop(0)
        if message is None:
            listener.in_hand = self._now_ms() if self.broken == "receipt time" else listener.lower_bound_ms
        else:
            listener.lower_bound_ms = max(listener.lower_bound_ms, message)

    def _is_on_the_way(self) -> bool:
        return any(each.on_the_way and each.in_hand is None for each in self.listeners)

    def _is_in_hand(self) -> bool:
        return any(each.in_hand is not None for each in self.listeners)

    @precondition(lambda self: self._is_in_hand())
    @rule()
    def listener_writes(self) -> None:
        listener = next(each for each in self.listeners if each.in_hand is not None)
        assert listener.in_hand is not None
        now(write_heard(cast("Redis", self._answering), [(b"x", listener.in_hand)]))
        listener.in_hand = None

    @precondition(lambda self: self._is_in_hand())
    @rule()
    def markers_expire(self) -> None:
        for marker in self.client.scan_iter(f"{HEARD}:*"):
            self.client.delete(marker)

    @precondition(lambda self: self.crashes)
    @rule(which=st.integers(0, 1))
    def listener_reconnects(self, which: int) -> None:
        self.crashes -= 1
        lost = self.listeners[which]
        self.disconnected |= None in lost.on_the_way or lost.in_hand is not None
        lost_ms = self._now_ms()
        while self._now_ms() <= lost_ms:
            """The times of two subscriptions differ, and so do those of a subscription and an undelete before it."""
        self.listeners[which] = _Listener(self._now_ms())

    # -- the loss of all data, and the replay, for which all wait but removals and attempts

    @precondition(lambda self: self.losses and self.loss_at_the_end is None)
    @rule()
    def lose_all(self) -> None:
        self.losses -= 1
        self.epoch += 1
        if any(self.reader is None or each != self.reader[0] for each in self._waiting()):
            self.intent = "either"  # a notice that nobody has read
        if self.undelete is not None:  # it is repeated by its user, or not
            self._undelete_ends_halfway()
        self.client.flushdb()
        lost_at = self._now_ms()
        while self._now_ms() <= lost_at + 1:
            """The positions of an undelete and of a notice that was lost differ by a millisecond."""
        self.client.execute_command("XGROUP", "CREATE", DROP_DELETED, "g", "0", "MKSTREAM")
        self.pending, self.positions, self.tasks = [], [], set()
        self._answering.changes += 1
        self.replaying = list(range(len(self.journal)))

    @precondition(lambda self: self.replaying is not None)
    @rule(which=PLACES)
    def replay_goes_on(self, which: int) -> None:
        """Restore one more entry. They come in any order."""
        assert self.replaying is not None
        if not self.replaying:
            self.replaying = None
            _note_complete(self.client)
            if not self.ready:  # a sweep queues it again
                self.processing = min(2, self.processing + 1)
            return
        entry = self.journal[self.replaying.pop(which % len(self.replaying))]
        if isinstance(entry, Mark):
            current = now(self.records.restore_marks([entry]))
            self.tasks |= {mark.generation for mark in current}
        else:
            generation, issued = entry
            now(self.records.restore_undeletes({MEDIUM: generation}, issued))

    # -- removals

    @precondition(lambda self: self._can_become_due())
    @rule()
    def time_passes(self) -> None:
        self.due |= self._journaled()
        self.journal = [
            replace(entry, due_ms=0) if isinstance(entry, Mark) and entry.generation in self.due else entry
            for entry in self.journal
        ]
        if self.is_deleted:
            self.client.hset(deletion_key(MEDIUM), "due", 0)
            self._answering.changes += 1

    def _can_become_due(self) -> bool:
        """Whether the journal has the deletion. The delay is far longer than that takes, even if a listener dies."""
        journaled = self._journaled()
        return bool(journaled - self.due) and (not self.is_deleted or self.generation in journaled)

    def _journaled(self) -> set[int]:
        """The deletions in the journal, also those that were undone."""
        if self.broken == BROKEN_JOURNAL:
            return {self.generation}
        return {entry.generation for entry in self.journal if isinstance(entry, Mark)}

    @precondition(lambda self: self.remover is None and self.tasks)
    @rule(which=st.integers(0, 3))
    def begin_removal(self, which: int) -> None:
        generation = sorted(self.tasks)[which % len(self.tasks)]
        before, current = self.state, self.generation
        removal = now(self.records.begin_removal(MEDIUM, generation))
        if removal.early_s or removal.unknown:
            return
        if not removal.may_go:
            self.tasks.discard(generation)
            return
        if before is DeletionState.MARKED:
            assert current in self.due, "removed before its delay"
        self.remover = "remove", generation, self.epoch

    @precondition(lambda self: self.remover is not None)
    @rule()
    def removal_goes_on(self) -> None:
        assert self.remover is not None
        step, generation, epoch = self.remover
        if step == "remove":
            assert self._is_being_removed(generation, epoch), "objects are removed of what is not being removed"
            self.is_there = False
            self.remover = "finish", generation, epoch
        else:
            now(self.records.finish_removal(MEDIUM, generation, HOUR_S))
            self.tasks.discard(generation)
            self.remover, self.ready = None, False

    def _is_being_removed(self, generation: int, epoch: int) -> bool:
        """Whether objects may go. A removal of an earlier epoch goes on: it is too late to undo it.

        A replay may already have restored the undelete of an older deletion, but not the mark of this one.
        """
        is_undone = self.state is DeletionState.UNDELETED and self.generation >= generation
        return self.state in GONE or (epoch < self.epoch and not is_undone)

    @precondition(lambda self: self.remover is not None and self.crashes)
    @rule()
    def remover_dies(self) -> None:
        self.crashes -= 1
        self.remover = None

    @precondition(lambda self: self._is_overdue())
    @rule()
    def sweep(self) -> None:
        self.tasks.add(self.generation)

    def _is_overdue(self) -> bool:
        if self.remover is not None or not self.is_deleted:
            return False
        if self.generation not in self.due or self.generation in self.tasks:
            return False
        return self.state is not DeletionState.REMOVED or self.is_there

    # -- attempts

    @precondition(lambda self: any(each != "idle" for each in self.attempts) or self.processing)
    @rule(which=st.integers(0, 1))
    def attempt(self, which: int) -> None:
        step = self.attempts[which]
        if step == "idle":
            if self.processing:
                self.attempts[which] = "check"
        elif step in ("check", "settle"):
            self._look(which, step)
        elif step == "write":
            self.is_there = True
            self.attempts[which] = "settle"
        elif step == "announce":
            deleted = self.is_deleted
            taken = now(self.status_store.put(Status(MEDIUM, State.READY), HOUR_S))
            assert not (taken and deleted), "announced after its deletion"
            self.ready = self.ready or taken
            self._ends(which)
        else:
            assert self._is_being_removed(*self.looked[which]), "objects are taken away that are not being removed"
            self.is_there = False
            self._ends(which)

    def _look(self, which: int, step: str) -> None:
        state = now(self.status_store.deletion_state(MEDIUM))
        self.looked[which] = self.generation, self.epoch
        if state in GONE:
            self.attempts[which] = "take away"
        elif state == DeletionState.MARKED:
            self._ends(which)
        else:
            self.attempts[which] = "write" if step == "check" else "announce"

    def _ends(self, which: int) -> None:
        self.attempts[which] = "idle"
        self.processing = max(0, self.processing - 1)

    @precondition(lambda self: self.crashes and any(each != "idle" for each in self.attempts))
    @rule()
    def attempt_dies(self) -> None:
        self.crashes -= 1
        which = next(number for number, each in enumerate(self.attempts) if each != "idle")
        self.attempts[which] = "idle"  # its task stays

    # -- the end

    def teardown(self) -> None:
        if self.listeners:
            if self.loss_at_the_end is not None:
                self._let_all_end(removals=False)
                self.lose_all()
                self._replay_while_removals_run(self.loss_at_the_end)
            self._let_all_end()
            self._judge()

    def _replay_while_removals_run(self, which: int) -> None:
        while self.replaying is not None:
            self.replay_goes_on(which)
            if self._can_become_due():
                self.time_passes()
            if self.tasks:
                self.begin_removal(0)
            while self.remover is not None:
                self.removal_goes_on()

    def _let_all_end(self, *, removals: bool = True) -> None:
        """Everybody goes on until nothing is left to do; the order is that of this list."""
        steps: list[tuple[Callable[[], object], Callable[[], None]]] = [
            (lambda: self.replaying is not None, lambda: self.replay_goes_on(0)),
            (lambda: self.undelete is not None and not self.undelete_is_committed, self.undelete_commits),
            (lambda: self.undelete is not None, self.undelete_is_journaled),
            (lambda: self.reader is not None and not self.reader[1].journaled, self.journal_notice),
            (lambda: self.reader is not None, self.acknowledge),
            (self._is_in_hand, self.listener_writes),
            (self._is_on_the_way, lambda: self.receive(0)),
            (self._waiting, lambda: self.read(0)),
            (lambda: self.attempts[0] != "idle" or self.processing, lambda: self.attempt(0)),
            (lambda: self.attempts[1] != "idle", lambda: self.attempt(1)),
        ]
        steps += [
            (self._can_become_due, self.time_passes),
            (lambda: self.remover is not None, self.removal_goes_on),
            (lambda: self.tasks, lambda: self.begin_removal(0)),
            (self._is_overdue, self.sweep),
        ] * removals
        for _ in range(200):
            step = next((step for needed, step in steps if needed()), None)
            if step is None:
                return
            step()
        raise AssertionError(f"it never ends: {self.__dict__}")

    def _judge(self) -> None:
        seen = f"{self.state}, objects {self.is_there}, ready {self.ready}"
        wants_deletion = self.intent == "deleted" or (self.intent == "deleted (channel)" and not self.disconnected)
        if wants_deletion:
            assert self.state is DeletionState.REMOVED, f"a deletion is lost: {seen}"
            assert not self.is_there, f"a deletion is lost: {seen}"
        if self.intent == "undeleted":
            assert self.state is DeletionState.UNDELETED, f"an undelete is undone: {seen}"
            assert self.is_there, f"an undelete is undone: {seen}"
            assert self.ready, f"an undelete is undone: {seen}"
        if self.state is DeletionState.REMOVED:
            assert not self.is_there, "objects are left"


def _note_complete(client: Any) -> None:
    client.hset(completeness_of(MEDIUM), "process", client.info("server")["run_id"])


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, sequence = (position or "0-0").partition("-")
    return int(milliseconds), int(sequence or 0)


def _after(messages: list[int | None], undeleted_at_ms: int) -> list[int | None]:
    return messages[messages.index(undeleted_at_ms) :] if undeleted_at_ms in messages else messages
