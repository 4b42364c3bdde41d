"""The specification of a child: frozen, and checked where it is written."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisors._errors import SpecError
from supervisors._policy import Backoff, Restart, check_seconds

if TYPE_CHECKING:
    from supervisors._child import Child
    from supervisors._engine import Engine
    from supervisors._state import NodeState

Run = Callable[["Child"], Awaitable[None]]

DEFAULT_BACKOFF = Backoff()
DEFAULT_SHUTDOWN_S = 5.0  # OTP's default for workers
DEFAULT_START_TIMEOUT_S = 30.0


class Subtree(ABC):
    """What a supervisor needs of another one that is its child."""

    name: str

    @abstractmethod
    async def run_below(self, child: Child, parent: Engine) -> None:
        """Run as ``child`` of ``parent``."""

    @abstractmethod
    def abort(self) -> None:
        """Give up every grace from now on; never waits."""

    @abstractmethod
    def node_children(self, path: str) -> tuple[NodeState, ...]:
        """The snapshot of the nodes below, where this supervisor's own path is ``path``."""

    @property
    @abstractmethod
    def stop_budget_s(self) -> float:
        """The longest that an ordered stop takes, the clean-up of cancelled children aside."""

    @property
    @abstractmethod
    def start_budget_s(self) -> float:
        """The longest that the first start takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How one child is run, restarted and stopped. Wrong fields raise `SpecError` here.

    ``run`` is an async callable that gets a `Child`; ``child`` is a supervisor instead (its name is the default name).
    ``ready_on_start``: the child needs no start-up and counts as ready at once; otherwise it must call `Child.ready`
    within ``start_timeout_s``. ``shutdown_s`` is the grace between the request to stop and the cancellation; 0 cancels
    at once. Left out, they are 30 s and 5 s for ``run``, and unlimited for ``child``: its own children bound it.
    ``significant``: see `AutoShutdown`; not for permanent children.
    """

    name: str = ""
    run: Run | None = None
    child: Subtree | None = None
    restart: Restart = Restart.PERMANENT
    shutdown_s: float | None = None
    start_timeout_s: float | None = None
    ready_on_start: bool = False
    significant: bool = False
    backoff: Backoff = DEFAULT_BACKOFF

    def __post_init__(self) -> None:
        if (self.run is None) == (self.child is None):
            raise SpecError(f"child {self.name!r}: give either run or child")
        if self.child is not None and not isinstance(self.child, Subtree):
            raise SpecError(f"child {self.name!r}: child must be a supervisor, not {self.child!r}")
        if self.child is not None and not self.name:
            object.__setattr__(self, "name", self.child.name)
        check_name(self.name)
        if self.run is not None and not callable(self.run):
            raise SpecError(f"child {self.name!r}: run must be an async callable, not {self.run!r}")
        if self.child is not None and self.name != self.child.name:
            raise SpecError(f"child {self.name!r}: the supervisor's own name is {self.child.name!r}")
        self._check_policy()

    def _check_policy(self) -> None:
        if not isinstance(self.restart, Restart):
            raise SpecError(f"child {self.name!r}: restart must be a Restart, not {self.restart!r}")
        if not isinstance(self.backoff, Backoff):
            raise SpecError(f"child {self.name!r}: backoff must be a Backoff, not {self.backoff!r}")
        for flag in ("ready_on_start", "significant"):
            if not isinstance(getattr(self, flag), bool):
                raise SpecError(f"child {self.name!r}: {flag} must be a bool")
        if self.shutdown_s is not None:
            check_seconds(f"child {self.name!r}: shutdown_s", self.shutdown_s, zero=True)
        if self.start_timeout_s is not None:
            check_seconds(f"child {self.name!r}: start_timeout_s", self.start_timeout_s, zero=False)
        if self.ready_on_start and self.child is not None:
            raise SpecError(f"child {self.name!r}: a supervisor is ready when its children are")
        if self.significant and self.restart is Restart.PERMANENT:
            raise SpecError(f"child {self.name!r}: a permanent child never ends for good, so it cannot be significant")

    @property
    def grace_s(self) -> float:
        """``shutdown_s`` with its default."""
        if self.shutdown_s is not None:
            return self.shutdown_s
        return DEFAULT_SHUTDOWN_S if self.child is None else math.inf

    @property
    def start_limit_s(self) -> float:
        """``start_timeout_s`` with its default."""
        if self.start_timeout_s is not None:
            return self.start_timeout_s
        return DEFAULT_START_TIMEOUT_S if self.child is None else math.inf

    @property
    def stop_budget_s(self) -> float:
        """The longest that its ordered stop takes, the clean-up after a cancellation aside."""
        return self.grace_s if self.child is None else min(self.grace_s, self.child.stop_budget_s)

    @property
    def start_budget_s(self) -> float:
        """The longest that its start takes."""
        if self.ready_on_start:
            return 0.0
        return self.start_limit_s if self.child is None else min(self.start_limit_s, self.child.start_budget_s)


def check_name(name: object) -> None:
    """Raise `SpecError` unless ``name`` can be one part of a path."""
    if not isinstance(name, str) or not name or not name.isprintable() or "/" in name or " " in name:
        raise SpecError(f"a name is printable text without spaces and slashes, not {name!r}")


def check_children(children: Iterable[ChildSpec | Subtree]) -> tuple[ChildSpec, ...]:
    """The specifications of ``children`` (a bare supervisor stands for its default one); names must differ."""
    specs: list[ChildSpec] = []
    for each in children:
        if not isinstance(each, ChildSpec | Subtree):
            raise SpecError(f"a child is a ChildSpec or a supervisor, not {each!r}")
        specs.append(ChildSpec(child=each) if isinstance(each, Subtree) else each)
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"names given twice: {', '.join(twice)}")
    return tuple(specs)
