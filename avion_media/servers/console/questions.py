"""Carries out the actions of forms: finds the targets, asks the question if there is one, writes the audit log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from avion_media.backends.queue import DEFAULT_RATE, TaskQueue
from avion_media.common.tasks import QUEUES
from avion_media.servers.console import audit
from avion_media.servers.console.actions import Action, Service, bulk_target
from avion_media.servers.console.dead_letters import MAX_EXAMINED, DeadLetterQuery, find_matching, show
from avion_media.servers.console.forms import Form
from avion_media.servers.console.wording import many, meaning, queue_title, short

_MAX_TARGETS: Final = 100
_NAMED: Final = 5
_RECORD_S: Final = 2.0  # for the entry of an action that was interrupted


@dataclass(frozen=True, slots=True)
class Question:
    """An action with its targets. ``fields`` are the fields that its form must have."""

    action: Action
    targets: Sequence[str]
    names: Sequence[str]
    fields: Mapping[str, str]
    explicit: Sequence[str]
    back: str
    hints: Sequence[str] = ()

    @property
    def count(self) -> int:
        """The number of targets."""
        return len(self.targets)

    def is_confirmed_by(self, form: Form) -> bool:
        """Return whether the form confirms this question, with the number that it showed, typed if required."""
        if not self.action.must_ask(self.count):
            return True
        if form.get("confirmed") != "yes":
            return False
        typed = (form.get("typed") or "").replace(",", "").strip()
        return not self.action.wants_number(self.count) or typed == str(self.count)


class Questions:
    """All actions of one console."""

    def __init__(self, service: Service, actions: Mapping[str, Action], replica: str) -> None:
        self._service = service
        self._actions = actions
        self._replica = replica

    async def ask(self, form: Form) -> Question | None:
        """Return the action that a form requests, with its targets; None if there is none. Raises `Unavailable`.

        With the field ``all``, the targets are all dead letters that match the filter, up to the newest one at the time
        when the question was asked. Dead letters that were added later are not touched.
        """
        action = self._actions.get(form.get("action") or "")
        if action is None:
            return None
        if action.name == "replay_all":
            return await self._ask_for_replay(action, form)
        if form.get("all") and action.noun == "dead letter":
            return await self._ask_of_all(action, form)
        targets = tuple(dict.fromkeys(action.targets_of(form)))[:_MAX_TARGETS]
        if not targets:
            return None
        names = [await self._name(action, each) for each in targets[:_NAMED]]
        back = _back(action, form.get("back") or "", targets[0])
        return Question(action, targets, names, {"back": back}, targets, back)

    async def carry_out(self, question: Question, who: str, *, note: str = "", rate: float = DEFAULT_RATE) -> str:
        """Carry out the action, and return the id of its entry in the audit log.

        ``rate`` is the number of targets per second, for actions that begin a job. An action that ends with an error
        or a cancel may have changed some targets. It is recorded as not completed, and the error is raised.
        """
        action = question.action

        async def record(result: str) -> str:
            return await audit.record(
                self._service.runtime.redis,
                who=who,
                action=action.name,
                count=question.count,
                targets=list(question.targets),
                result=result,
                replica=self._replica,
            )

        try:
            service = replace(self._service, who=who, note=note, rate=rate)
            outcome = await action.perform(service, question.targets)
        except BaseException as error:
            cause = "it was interrupted" if isinstance(error, trio.Cancelled) else str(error) or type(error).__name__
            # Shielded, so that an interrupted action is in the audit log as well. Bounded by `_RECORD_S`.
            with trio.CancelScope(shield=True), trio.move_on_after(_RECORD_S):
                await record(f"Not completed: {cause}")
            raise
        return await record(f"{action.result(outcome)} Note: {note}" if note else action.result(outcome))

    async def note_look(self, media_id: str, who: str) -> None:
        """Record that an operator looks at evidence."""
        redis = self._service.runtime.redis
        result = "The preview was shown."
        await audit.record(
            redis, who=who, action="look", count=1, targets=[media_id], result=result, replica=self._replica
        )

    async def _ask_for_replay(self, action: Action, form: Form) -> Question | None:
        """Return the question for the queues that have dead letters. Their jobs find out which dead letters match."""
        wanted, redis = DeadLetterQuery.from_query(form.flat()), self._service.runtime.redis
        queues = [wanted.queue] if wanted.queue else QUEUES
        found = [each for each in queues if await TaskQueue(redis, each).dead_letters.list(1)]
        if not found:
            return None
        conditions = wanted.conditions(time.time())
        targets = [bulk_target(each, conditions) for each in found]
        return Question(action, targets, [queue_title(each) for each in found], wanted.fields(), (), "/console/queues")

    async def _ask_of_all(self, action: Action, form: Form) -> Question | None:
        wanted = DeadLetterQuery.from_query(form.flat())
        keys, newest, has_more = await find_matching(self._service.runtime.redis, wanted, form.get("until") or "")
        if not keys:
            return None
        hints = [f"All have the reason {wanted.reason}: {meaning(wanted.reason)}"] if wanted.reason else []
        if has_more:
            hints.append(
                f"More may match: {MAX_EXAMINED:,} were looked at, the newest first. Repeat it for the others."
            )
        hints.append("What fails from now on is not touched.")
        fields = {**wanted.fields(), "all": "1", "until": newest}
        return Question(action, keys, (), fields, (), wanted.url(), hints)

    async def _name(self, action: Action, target: str) -> str:
        if action.noun != "dead letter":
            return target
        found = await show(self._service.runtime.redis, target)
        return short(found.subject) or many(1, "task") if found is not None else "one that is no longer there"


def _back(action: Action, asked: str, target: str) -> str:
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
    }
    return pages.get(action.noun, "/console/dead-letters")
