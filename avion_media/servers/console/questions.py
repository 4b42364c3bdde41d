"""What a form asks for: which action, of which targets, and the question before it if there is one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams

from avion_media.backends.queue import DeadLetterFilter
from avion_media.common.credentials import Person
from avion_media.common.errors import Unavailable
from avion_media.common.ids import id_or_none
from avion_media.common.records import UnreadableRecord
from avion_media.common.tasks import QUEUES
from avion_media.items.moderation.desk import Claim, Desk
from avion_media.operations import hosts
from avion_media.operations.dead_letters import MAX_EXAMINED, Selection, bulk_targets, find_matching, show
from avion_media.operations.operation import InvalidTarget, Operation, many
from avion_media.operations.table import Operations
from avion_media.process.runtime import Runtime
from avion_media.servers.console.sessions import chosen
from avion_media.servers.console.wording import address, duration, meaning, queue_title, short

_MAX_TARGETS: Final = 100
_NAMED: Final = 5
ENDS: Final = {"1800": "After 30 minutes", "3600": "After 1 hour", "14400": "After 4 hours", "86400": "After 1 day"}
"""When a pause ends by itself, in seconds."""
_AGES: Final = {"1h": 3600.0, "1d": 86_400.0, "7d": 7 * 86_400.0}


@dataclass(frozen=True, slots=True)
class DeadLetterQuery:
    """A filter for dead letters, as a URL or a form has it. Those match that meet every condition that is set."""

    text: str = ""
    queue: str = ""
    reason: str = ""
    age: str = ""
    error: str = ""
    is_unfolded: bool = False

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> DeadLetterQuery:
        """Read the filter from a URL or a form. Invalid values count as absent."""
        return cls(
            text=query.get("q", "").strip()[:200],
            queue=chosen(query, "queue", QUEUES),
            reason=query.get("reason", "")[:60],
            age=chosen(query, "age", _AGES),
            error=query.get("error", "")[:1000],
            is_unfolded=bool(query.get("each")),
        )

    @property
    def is_open(self) -> bool:
        """Whether every dead letter matches."""
        return self == DeadLetterQuery(is_unfolded=self.is_unfolded)

    def fields(self) -> dict[str, str]:
        """Return the conditions as the fields of a URL or a form."""
        named = {"q": self.text, "queue": self.queue, "reason": self.reason, "age": self.age, "error": self.error}
        named["each"] = "1" if self.is_unfolded else ""
        return {name: value for name, value in named.items() if value}

    def url(self, **more: str) -> str:
        """Return the address of the list with this filter, changed by ``more``."""
        return address("/console/dead-letters", {**self.fields(), **more})

    def selection(self) -> Selection:
        """Return the dead letters that match now."""
        failed_after = time.time() - _AGES[self.age] if self.age else None
        conditions = DeadLetterFilter(self.text, reason=self.reason, same_error=self.error, failed_after=failed_after)
        return Selection([self.queue] if self.queue else tuple(QUEUES), conditions)


@dataclass(frozen=True, slots=True)
class Question:
    """An action with its targets. ``fields`` are the fields that its form must have. ``cause``: that of
    the block which is lifted (see `Block`), if there is one target."""

    action: Operation
    targets: Sequence[str]
    names: Sequence[str]
    fields: Mapping[str, str]
    explicit: Sequence[str]
    back: str
    hints: Sequence[str] = ()
    cause: str = ""

    @property
    def count(self) -> int:
        """The number of targets."""
        return len(self.targets)

    def is_confirmed_by(self, form: QueryParams) -> bool:
        """Return whether the form confirms this question, with the number that it showed, typed if required."""
        if not self.action.must_ask(self.count):
            return True
        if form.get("confirmed") != "yes":
            return False
        typed = (form.get("typed") or "").replace(",", "").strip()
        return not self.action.wants_number(self.count) or typed == str(self.count)


class Questions:
    """All questions of one console. ``spans``: the times in seconds that the questions name."""

    def __init__(self, runtime: Runtime, operations: Operations, spans: Mapping[str, float]) -> None:
        self._runtime = runtime
        self._operations = operations
        self._redis = runtime.redis
        self._desk = Desk(runtime.redis)
        self._actions = {name: each for name, each in operations.allowed.items() if each.perform is not None}
        self._spans = {name: duration(seconds) for name, seconds in spans.items()}

    def consequences(self, action: Operation) -> list[str]:
        """Return the sentences of a question."""
        return [each.format_map(self._spans) for each in action.follows]

    async def ask(self, form: QueryParams, who: Person) -> Question | None:
        """Return the action that a form requests, with its targets; None if there is none.

        Raises `Unavailable`, and `NotAllowed` if the person has no right to the action.

        With the field ``all``, the targets are all dead letters that match the filter, up to the newest one at the time
        when the question was asked. Dead letters that were added later are not touched.
        """
        action = self._actions.get(form.get("action") or "")
        if action is None:
            return None
        self._operations.require(action.name, who)
        if action.name == "replay_all":
            return await self._ask_for_replay(action, form)
        if form.get("all") and action.noun == "dead letter":
            return await self._ask_of_all(action, form)
        named = _entry_of(form) if action.name == "list" else filter(None, form.getlist("target"))
        targets = tuple(dict.fromkeys(named))[:_MAX_TARGETS]
        if not targets:
            return None
        names = [await self._name(action, each) for each in targets[:_NAMED]]
        back = _back(action, form.get("back") or "", targets[0])
        hints, cause = await self._others(action, targets, who), await self._cause(action, targets)
        return Question(action, targets, names, {"back": back}, targets, back, hints, cause)

    async def _cause(self, action: Operation, targets: Sequence[str]) -> str:
        if action.name == "unblock" and len(targets) == 1 and id_or_none(targets[0]) is not None:
            with suppress(UnreadableRecord):
                block = await self._runtime.moderation.records.block(targets[0])
                return "" if block is None else block.cause
        return ""

    async def _others(self, action: Operation, targets: Sequence[str], who: Person) -> Sequence[str]:
        """Return a sentence for each moderator who reviews some of these now, or of the copies that a purge removes."""
        if action.name == "purge_host":
            with suppress(Unavailable, InvalidTarget):  # a name that is none is refused later
                counts = [await hosts.count_copies(self._runtime, each) for each in targets]
                return [f"{many(sum(counts), 'copy', 'copies')} now."]
            return ()
        if action.name not in ("release", "block"):
            return ()
        claims: Mapping[str, Claim] = {}
        with suppress(Unavailable):  # it must not prevent a block
            claims = await self._desk.claims()
        names = Counter(claims[each].who for each in targets if each in claims and claims[each].who != who.name)
        return [f"{name} is reviewing {count} of them now." for name, count in names.items()]

    async def _ask_for_replay(self, action: Operation, form: QueryParams) -> Question | None:
        """Return the question for the queues that have dead letters. Their jobs find out which dead letters match."""
        wanted = DeadLetterQuery.from_query(form)
        targets = await bulk_targets(self._redis, wanted.selection())
        if not targets:
            return None
        names = [queue_title(each.partition("?")[0]) for each in targets]
        back = _back(action, form.get("back") or "", "")
        return Question(action, targets, names, {**wanted.fields(), "back": back}, (), back)

    async def _ask_of_all(self, action: Operation, form: QueryParams) -> Question | None:
        wanted = DeadLetterQuery.from_query(form)
        keys, newest, has_more = await find_matching(self._redis, wanted.selection(), form.get("until") or "")
        if not keys:
            return None
        hints = [f"All have the reason {wanted.reason}: {meaning(wanted.reason)}"] if wanted.reason else []
        if has_more:
            hints.append(
                f"More might match: only the newest {MAX_EXAMINED:,} were examined. Repeat the action for the others."
            )
        hints.append("Tasks that fail from now on are not affected.")
        back = _back(action, form.get("back") or "", "")
        fields = {**wanted.fields(), "all": "1", "until": newest, "back": back}
        return Question(action, keys, (), fields, (), back, hints)

    async def _name(self, action: Operation, target: str) -> str:
        if action.noun != "dead letter":
            return target
        found = await show(self._redis, target)
        return short(found.subject) or many(1, "task") if found is not None else "one that is no longer there"


def _entry_of(form: QueryParams) -> Sequence[str]:
    """Return the line of a block list that the fields of a form describe."""
    digest = (form.get("hash") or "").strip().lower()
    label = " ".join((form.get("label") or "").replace('"', "'").split())
    return [f'{form.get("type")},{digest},"{label}"'] if digest else []


def _back(action: Operation, asked: str, target: str) -> str:
    """Return the page to show next: the page of the form, without the result of the last action."""
    if asked.startswith(("/console/", "/console?")) and "//" not in asked and "\\" not in asked and asked.isprintable():
        return asked
    if action.noun == "media item":
        return f"/console/media/{target}"
    pages = {
        "node": "/console/system",
        "queue": "/console/queues",
        "job": "/console/queues",
        "owner": "/console/queues",
        "hash": "/console/moderation?part=lists",
        "host": "/console/moderation?part=hosts",
    }
    return pages.get(action.noun, "/console/dead-letters")
