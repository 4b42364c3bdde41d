"""The whole service as one call: telemetry, tree, drain. Used by `serve` and `dev`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import trio

from avion_media.app import build_tree
from avion_media.common.kernel import raise_file_limit
from avion_media.common.settings import PREFIX
from avion_media.common.telemetry import instruments
from avion_media.common.telemetry.traces import trace_of_medium
from avion_media.config import Config, ConfigError, ports_without_auth
from avion_media.config.dangers import dangers
from avion_media.items.item import NoRemoteKey
from avion_media.media.native import load_elsewhere, needed_of_wheels
from avion_media.nodes import gauges
from avion_media.nodes.credential_reload import problems_with_files
from avion_media.nodes.foundation import TELEMETRY_STOP_S
from avion_media.nodes.ports import CannotListen
from avion_media.process.drain import run_until_stopped
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import DECODING_ROLES, Runtime, consumer_name
from avion_media.process.tree import Tree, lasting_path
from avion_media.servers.files import files_needed, fit_to_files
from supervisors import (
    Event,
    EventKind,
    Node,
    StartFailed,
    SupervisionError,
    Supervisor,
    TooManyRestarts,
    Watchdog,
)
from trio_telemetry import configure_logging, get_logger, open_telemetry

_MISTAKES = CannotListen, NoRemoteKey  # whose sentence says everything, without a traceback
_UNCLEAN_ENDS = {EventKind.STOPPED: "error", EventKind.CANCELLED: "late", EventKind.STUCK: "stuck"}
# For children that had to be cancelled, and for the process itself. The watchdog ends it after that.
MARGIN_S = 3.0


class TreeFailed(Exception):
    """The tree could not be started, or gave up; ``lines`` say why."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class DrainBudget:
    """What a shutdown may take at most, part by part, in seconds, and what Kubernetes allows."""

    parts: Mapping[str, float]
    allowed_s: float

    @property
    def total_s(self) -> float:
        """The sum: when the watchdog ends the process."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the watchdog would be before Kubernetes."""
        return self.total_s < self.allowed_s

    def explain(self) -> str:
        """The sum, in words."""
        parts = " + ".join(f"{name} {seconds:g} s" for name, seconds in self.parts.items())
        return f"{parts} = {self.total_s:g} s; it must be less than the termination grace period, {self.allowed_s:g} s"


def drain_budget(config: Config, root: Supervisor) -> DrainBudget:
    """How long a shutdown of this tree with this configuration may take."""
    drain, stop_s = config.drain, root.stop_budget_s - TELEMETRY_STOP_S
    parts = {
        "settle": drain.settle,
        "grace": drain.grace,
        "stop": stop_s,
        "flush": TELEMETRY_STOP_S,
        "margin": MARGIN_S,
    }
    return DrainBudget(parts, drain.termination_grace_period)


Before = Callable[[Runtime], Iterable[Node[Any]]]
Alongside = Callable[[Runtime, Tree], Awaitable[None]]


def planned_budget(config: Config, roles: frozenset[str], before: Before | None = None) -> DrainBudget:
    """The budget of a service that is not running yet."""
    plan = Runtime(config, roles)
    return drain_budget(config, build_tree(plan, config, before(plan) if before else ()).root)


def startup_problems(config: Config, roles: frozenset[str], budget: DrainBudget) -> list[str]:
    """What `serve` refuses of a configuration that is valid as such, one line each; `config` tells the same.

    Ports open to others without a word on who may use them, files of credentials that cannot be used, a library of a
    decoder that is missing, a drain that Kubernetes would cut short.
    """
    problems = ports_without_auth(config, roles) + problems_with_files(config, roles)
    problems += _problems_with_libraries(config, roles)
    if not budget.fits:
        problems.append(f"the drain does not fit: {budget.explain()} ({PREFIX}DRAIN__TERMINATION_GRACE_PERIOD)")
    return problems


def _problems_with_libraries(config: Config, roles: frozenset[str]) -> list[str]:
    decoding = sorted(roles & DECODING_ROLES)
    needed = needed_of_wheels(config.enabled_formats()) if decoding else []
    missing = [each for each in load_elsewhere() if each.problem and each.name in needed] if needed else []
    if not missing:
        return []
    names, problems = ", ".join(each.name for each in missing), "; ".join(sorted({each.problem for each in missing}))
    return [f"{names} cannot be loaded, and the role {' and '.join(decoding)} needs it: {problems}"]


def serve(
    config: Config,
    roles: frozenset[str],
    *,
    before: Before | None = None,
    alongside: Alongside | None = None,
) -> None:
    """Run the service until it is drained, with the nodes ``before`` on its left and ``alongside`` beside it.

    Raises `ConfigError` for what `startup_problems` finds; `TreeFailed` when it cannot start or gives up.
    """
    budget = planned_budget(config, roles, before)
    problems = startup_problems(config, roles, budget)
    if problems:
        raise ConfigError(problems)
    configure_logging(config.log.format, config.log.level)
    logging.getLogger("supervisors.events").disabled = True  # `_log_transition` logs each event, with its fields
    config = _fit_to_file_limit(config, roles)
    trio.run(_serve, config, roles, before, alongside, Watchdog(budget.total_s, "avion-media"))


def _fit_to_file_limit(config: Config, roles: frozenset[str]) -> Config:
    files = raise_file_limit()
    fitted = fit_to_files(config, roles, files)
    if fitted is not config:
        get_logger(path="process").warning(
            "files.scarce",
            limit=files,
            needed=files_needed(config, roles),
            grpc_connections=fitted.grpc.max_connections,
            http_connections=fitted.http.max_connections,
        )
    return fitted


async def _serve(
    config: Config,
    roles: frozenset[str],
    before: Before | None,
    alongside: Alongside | None,
    watchdog: Watchdog,
) -> None:
    runtime = open_runtime(config, roles)
    for danger in runtime.dangers:
        get_logger(path="process").warning("config.dangerous", why=danger)
    tree = build_tree(runtime, config, before(runtime) if before else ())
    root = tree.root
    root.observe(lambda event: _log_transition(runtime, event))
    gauges.observe_tree(runtime, root)
    budget = drain_budget(config, root).parts
    runtime.telemetry.observe(
        instruments.DRAIN_BUDGET, lambda: [(seconds, {"part": part}) for part, seconds in budget.items()]
    )
    try:
        beside = trio.sleep_forever if alongside is None else partial(alongside, runtime, tree)
        await run_until_stopped(root, runtime, beside, watchdog=watchdog)
    except* SupervisionError as group:
        lines = explain(group)
        get_logger(path="process").critical("tree.failed", why=lines)
        raise TreeFailed(*lines) from group


def open_runtime(config: Config, roles: frozenset[str]) -> Runtime:
    """Make a runtime with real telemetry."""
    name = consumer_name()
    telemetry = open_telemetry(
        "avion-media",
        version("avion-media"),
        instruments.INSTRUMENTS,
        instance=name,
        spans_by_outcome=instruments.TELEMETRY_SPANS,
        trace_of=trace_of_medium,
    )
    runtime = Runtime(config, roles, telemetry, consumer=name, dangers=dangers(config))
    gauges.observe(runtime)
    runtime.lifecycle.on_change(lambda phase: runtime.telemetry.flush() if phase is Phase.LAME_DUCK else None)
    runtime.lifecycle.on_change(lambda phase: freeze_long_lived_objects() if phase is Phase.READY else None)
    return runtime


def freeze_long_lived_objects() -> None:
    """Exclude all present objects from garbage collection: modules, botocore's models, the tree.

    Otherwise each full collection reads all of them: 70 ms of CPU time, while every call waits.
    """
    gc.collect()
    gc.freeze()


def _log_transition(runtime: Runtime, event: Event) -> None:
    """Log each transition. Count restarts, escalations, and ends that were not clean."""
    path = lasting_path(event.path)
    if path != event.path and event.level == logging.DEBUG:
        return  # an attempt logs its own end
    log = get_logger(path=event.path, incarnation=event.incarnation)
    fields: dict[str, Any] = {"exc_info": event.error} if event.error else {}
    if isinstance(cause := _first_cause(event.error), _MISTAKES):
        fields = {"why": str(cause)}  # a traceback says nothing more
    if event.stack is not None:
        fields["stack"] = event.stack
    log.log(event.level, f"supervision.{event.kind}", **fields)
    if event.kind is EventKind.ESCALATED:
        runtime.telemetry.count(instruments.ESCALATIONS, path=path)
    elif event.kind in _UNCLEAN_ENDS and event.level > logging.DEBUG:
        runtime.telemetry.count(instruments.UNCLEAN_ENDS, path=path, end=_UNCLEAN_ENDS[event.kind])
    elif event.kind is EventKind.STARTING and event.incarnation > 1:
        runtime.telemetry.count(instruments.RESTARTS, path=path)


def explain(error: BaseException) -> list[str]:
    """Return the causes of a failed tree, innermost first: one line each, with the path of the failed node.

    For a mistake of the operator, return one line.
    """
    if isinstance(error, BaseExceptionGroup):
        return [line for each in error.exceptions for line in explain(each)]
    if isinstance(cause := _first_cause(error), _MISTAKES):
        return [str(cause)]
    lines = []
    if isinstance(error, StartFailed | TooManyRestarts) and error.__cause__ is not None:
        cause, child = error.__cause__, error.path if isinstance(error, StartFailed) else error.child
        lines = explain(cause) if isinstance(cause, SupervisionError) else [f"{child}: {_text_of(cause)}"]
    return [*lines, str(error)]


def _first_cause(error: BaseException | None) -> BaseException | None:
    while isinstance(error, SupervisionError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _text_of(error: BaseException) -> str:
    """Return type and message of an error. Making the message calls code of a child, which can fail."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - any error of `__str__`
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
