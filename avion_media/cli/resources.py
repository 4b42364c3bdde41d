"""Store and Redis for the commands that use them directly, and the actions of operators that these carry out.

A command needs the settings of the service, but not the service: it does the same as a button of the console. It logs
its action on stderr, unless that is a terminal.
"""

from __future__ import annotations

import getpass
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import click
import trio

from avion_media.backends.store import open_store
from avion_media.cli.output import load_config
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.recorded import COMMANDS
from avion_media.common.credentials import Person
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.ids import InvalidId
from avion_media.config import Config
from avion_media.items.item import NoRemoteKey
from avion_media.operations.operation import Facts, InvalidTarget, NoSuchTarget, Order, Outcome
from avion_media.operations.table import EVENT, Operations
from avion_media.process.audit import AuditLog
from avion_media.process.runtime import Runtime
from trio_telemetry import silence_logging

T = TypeVar("T")
Find = Callable[[Runtime], Awaitable[Sequence[str]]]
"""Finds the targets of an action. Raises `CommandFailed` for those that do not exist."""
Bring = Callable[[Runtime], Awaitable[Outcome]]
"""Does the work of a row that leaves it to its command."""
_CLOSE_S = 10.0
_SETTINGS = {
    Dependency.REDIS: "AVION_MEDIA_REDIS__URL",
    Dependency.STORE: "AVION_MEDIA_S3__ENDPOINT_URL and the AWS credentials",
    Dependency.OBJECT: "the bucket's policy and the object store's own health",
}


def run_quietly(run: Callable[[], Awaitable[T]]) -> T:
    """Run with Trio; Ctrl-C is `KeyboardInterrupt`.

    Nothing is logged, because the exceptions say what is wrong, and programs might read the output.
    """
    silence_logging()
    return trio.run(_interruptible, run)


async def _interruptible(run: Callable[[], Awaitable[T]]) -> T:
    """Cancel ``run`` at Ctrl-C. A second Ctrl-C ends the process at once.

    Trio would raise `KeyboardInterrupt` wherever the main task waits. In the middle of `Nursery.start` this becomes an
    internal error of Trio, if the task to be started fails because of it (trio 0.35).
    """
    token = trio.lowlevel.current_trio_token()
    scope = trio.CancelScope()
    with _on_ctrl_c(lambda: token.run_sync_soon(scope.cancel)):
        try:
            with scope:
                ended = await run()
        except Exception:
            if not scope.cancel_called:
                raise
    if scope.cancel_called:  # cancelled: a failure that follows from it is not reported
        raise KeyboardInterrupt
    return ended


@contextmanager
def _on_ctrl_c(interrupt: Callable[[], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # as for what a shell runs in the background
        yield
        return

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        interrupt()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_directly(run: Callable[[], Awaitable[T]]) -> T:
    """Run with Trio. An unavailable dependency or a missing key becomes a `CommandFailed` with one helpful line."""
    try:
        return run_quietly(run)
    except Unavailable as error:
        setting = error.setting or _SETTINGS.get(error.dependency, error.dependency)
        raise CommandFailed(f"{error} (see {setting})") from None
    except NoRemoteKey as error:
        raise CommandFailed(str(error)) from None


def on_service(use: Callable[[Runtime], Awaitable[T]]) -> T:
    """Run with the store and Redis of the service, whether it runs or not. Errors as with `run_directly`."""
    config = load_config()

    async def run() -> T:
        async with open_service(config) as runtime:
            return await use(runtime)

    return run_directly(run)


@asynccontextmanager
async def open_service(config: Config) -> AsyncIterator[Runtime]:
    """Open both for the duration of the block. If one is unavailable, only its use raises `Unavailable`.

    An error in the block is raised unchanged.
    """
    runtime = Runtime(config)
    runtime.audit = AuditLog(runtime.store, runtime.consumer, f"command: {_words()}")
    failure: Exception | None = None
    async with open_store(config.s3) as store, runtime.redis.opened(), trio.open_nursery() as nursery:
        nursery.start_soon(runtime.moderation.likeness.run)
        try:
            with runtime.store.filled(store):
                try:
                    yield runtime
                finally:
                    # Shielded, so that an interrupted command ends its audit log. Bounded by `_CLOSE_S`.
                    with trio.CancelScope(shield=True), trio.move_on_after(_CLOSE_S):
                        await runtime.audit.close()
        except Exception as error:  # noqa: BLE001 - raised again below; the nursery would wrap it in a group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def act(name: str, targets: Sequence[str] | Find, work: Bring | None = None, **details: Any) -> Outcome:
    """Carry out an action; ``details`` are those of its `Order`. Without targets nothing is done or recorded.

    Problems with targets are left to `raise_problems`, so that a command can print first what was done.
    """

    assert name in COMMANDS[_words()], f"{name} is not in the row of the command {_words()}"

    async def carry_out(runtime: Runtime) -> Outcome:
        found = targets if isinstance(targets, Sequence) else await targets(runtime)
        if not found:
            return Outcome()
        order = Order(found, who=Person(_operator_name(), may_discard=True), **details)
        return await Operations(runtime, "command").carry_out(
            name, order, None if work is None else partial(work, runtime)
        )

    outcome = on_service(carry_out)
    if (entry := outcome.entry) is not None and not sys.stderr.isatty():  # at a terminal the command says it
        log = {"event": EVENT, **entry.shown(), "timestamp": datetime.now(UTC).isoformat()}
        click.echo(json.dumps(log), err=True)
    return outcome


def act_on(name: str, target: str, **details: Any) -> Facts:
    """Carry out an action on one target. Return the facts about it. Raises as `raise_problems`."""
    outcome = act(name, [target], **details)
    raise_problems(outcome)
    return outcome.done[target]


def raise_problems(outcome: Outcome) -> None:
    """Raise `CommandFailed` if targets could not be changed, `UsageError` if one of them cannot exist."""
    if outcome.problems:
        wrong = any(isinstance(each, InvalidTarget | NoSuchTarget | InvalidId) for each in outcome.problems.values())
        raise (UsageError if wrong else CommandFailed)(*outcome.sentences())


def _words() -> str:
    """Return the words of the command that runs."""
    return click.get_current_context().command_path.partition(" ")[2]


def _operator_name() -> str:
    """Return the user of this command and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user: a container with an arbitrary id
        user = "unknown user"
    return f"{user}@{socket.gethostname()}"
