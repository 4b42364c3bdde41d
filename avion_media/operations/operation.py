"""An action of an operator as one value: its right, question, result, and how it is undone.

A door finds out who asks and for what, calls `Operations.carry_out`, and shows the outcome. It does nothing else, so
every door does the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final

from avion_media.backends.queue import DEFAULT_RATE
from avion_media.common.credentials import Person, Role
from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.ids import AnyId, InvalidId, parse_any_id
from avion_media.common.media import is_owner
from avion_media.items.moderation import Ground
from avion_media.process.audit import AuditRecord
from avion_media.process.runtime import Runtime
from trio_redis import run_all

_SHOWN: Final = 3  # problems in a sentence


class Refused(MediaError):
    """The state of the target does not allow the action."""


class InvalidTarget(Refused):
    """The target, or a condition of it, is not valid."""


class NoSuchTarget(Refused):
    """There is no such target."""


class NotAllowed(MediaError):
    """The person does not have the role that the action needs."""


class Asks(Enum):
    """When the console asks before an action."""

    NEVER = "never"
    MANY = "many"  # if it works on more than one target
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for. ``rate``: targets per second of a job. ``discard_evidence``, ``ground``,
    ``requested_at`` and ``automated``: of a block (see `Block`). ``until``: of a hold of evidence. ``purge``: with the
    block of a host, remove its copies. ``for_s``: how long a pause lasts (0: until it is ended). ``save_to``: the file
    for an archive, which must not exist."""

    targets: Sequence[str]
    _: KW_ONLY
    who: Person
    note: str = ""
    rate: float = DEFAULT_RATE
    discard_evidence: bool = False
    ground: Ground = Ground.UNSPECIFIED
    requested_at: str = ""
    automated: bool = False
    until: str = ""
    purge: bool = False
    for_s: float = 0.0
    save_to: Path | None = None


Facts = Mapping[str, Any]
"""What a program wants to know of a target that was changed, besides that it was."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The targets that were changed, and why the others were not. ``entry`` is what the audit log has of it; None if
    nothing was recorded.

    ``text`` replaces the sentence of the row, where a number of targets does not say what was done.
    """

    done: Mapping[str, Facts] = field(default_factory=dict)
    problems: Mapping[str, Exception] = field(default_factory=dict)
    text: str = ""
    entry: AuditRecord | None = None

    def sentences(self) -> list[str]:
        """Return a sentence for each problem."""
        return [f"{target[:80]}: {problem}" for target, problem in self.problems.items()]

    def raise_problem(self) -> None:
        """Raise the first problem, if there is one, as the error of the domain. For doors with one target."""
        for problem in self.problems.values():
            raise problem.__cause__ or problem


Work = Callable[[], Awaitable[Outcome]]
Perform = Callable[[Runtime, Order], Awaitable[Outcome]]
Step = Callable[[Runtime, Order, str], Awaitable[Facts | None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table. ``name`` is its name in forms and in the audit log; ``verb`` is the word on its button.

    - ``done``: the result, such as "{} {} queued again."; the first {} is the number with the noun, the second is/are.
    - ``perform``: None if only a command does it, and brings the work, because it stands above this floor.
    - ``right``: the role that it needs. Callers of gRPC have a right to each method instead, and commands the store.
    - ``undo``: the name of the action that undoes it, or how else that is done; empty if it cannot be undone.
    - ``asks``, ``follows``: when the console asks, and the sentences of the question. Times are filled in by name.
    - ``is_final``: for more than one target, the operator must type their number.
    - ``takes``: the fields of `Order` that the question asks for, such as ``note``; ``for_s`` is the time after which
      it ends by itself.
    - ``is_job``: the service does it later, at a rate that the operator chooses.
    - ``needs_log``: it is refused while the audit log cannot be written. If not, its record may come later.
    """

    name: str
    verb: str
    noun: str
    icon: str
    done: str
    perform: Perform | None = None
    _: KW_ONLY
    undo: str = ""
    right: Role = Role.OPERATOR
    asks: Asks = Asks.NEVER
    follows: tuple[str, ...] = ()
    is_final: bool = False
    takes: tuple[str, ...] = ()
    is_job: bool = False
    needs_log: bool = True

    @property
    def button(self) -> str:
        """The CSS classes of its button in a question or a selection."""
        return "danger solid" if self.is_final or self.name in ("delete", "block", "block_host") else "primary"

    def require(self, who: Person) -> None:
        """Raise `NotAllowed` unless the person has a role with the right to it."""
        if who.role < self.right:
            raise NotAllowed(
                f"`{self.verb.lower()} {self.noun}` needs the role {self.right}, but {who.name} is a {who.role}"
            )

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
        """Return what was done, as sentences."""
        count, problems = len(outcome.done), outcome.sentences()
        sentences = []
        if outcome.text:
            sentences.append(outcome.text)
        elif count or not problems:
            sentences.append(self.done.format(many(count, self.noun), "is" if count == 1 else "are"))
        if problems:
            sentences.append(f"Not done: {'; '.join(problems[:_SHOWN])}.")
        if len(problems) > _SHOWN:
            sentences.append(f"And {len(problems) - _SHOWN} more.")
        return " ".join(sentences)


def each(step: Step, at_once: int = 1) -> Perform:
    """Return what takes one step with each target. Those whose step is refused are problems of the outcome."""

    async def perform(runtime: Runtime, order: Order) -> Outcome:
        done: dict[str, Facts] = {}
        problems: dict[str, Exception] = {}

        async def take(target: str) -> None:
            try:
                done[target] = await step(runtime, order, target) or {}
            except (Refused, InvalidId) as error:
                problems[target] = error

        await run_all([partial(take, target) for target in order.targets], at_once)
        return Outcome(done, problems)

    return perform


REFUSALS: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_EXHAUSTED",
    }
)
"""The codes of what changed nothing. After any other error, a target might have changed."""


def code_of(error: BaseException) -> str:
    """Return the code that the audit log has for an error, by the names of gRPC."""
    match error:
        case NoSuchTarget():
            return "NOT_FOUND"
        case InvalidTarget() | InvalidId():
            return "INVALID_ARGUMENT"
        case Refused():
            return "FAILED_PRECONDITION"
        case NotAllowed():
            return "PERMISSION_DENIED"
        case Unavailable():
            return "UNAVAILABLE"
        case Exception():
            return "INTERNAL"
    return "CANCELLED"


OWNER: Final = "owner:"
"""Begins a target that is all media of an owner."""


def media_and_owners(targets: Sequence[str]) -> tuple[list[AnyId], list[str], dict[str, Exception]]:
    """Return the media ids and the owners among the targets, and a problem for each target that is neither."""
    ids: list[AnyId] = []
    owners: list[str] = []
    problems: dict[str, Exception] = {}
    for target in targets:
        try:
            if not target.startswith(OWNER):
                ids.append(parse_any_id(target))
            elif is_owner(target.removeprefix(OWNER)):
                owners.append(target.removeprefix(OWNER))
            else:
                problems[target] = InvalidTarget("not an owner")
        except InvalidId as error:
            problems[target] = error
    return ids, owners, problems


def many(number: int, one: str, more: str = "") -> str:
    """A number with its noun: ``1 dead letter``, ``2 dead letters``, ``3 hashes``."""
    return f"{number:,} {one if number == 1 else more or one + ('es' if one.endswith('sh') else 's')}"
