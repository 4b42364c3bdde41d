"""Carries out the actions of operators in the process of a command, and logs them on stderr unless that is a terminal.

A command needs the settings of the service, but not the service: it does the same as a button of the console.
"""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from avion_media.cli.output import CommandFailed, UsageError
from avion_media.cli.resources import on_service
from avion_media.common.ids import InvalidId
from avion_media.operations.audit import EVENT
from avion_media.operations.operation import InvalidTarget, NoSuchTarget, OperatedService, Order, Outcome
from avion_media.operations.table import Operations

Find = Callable[[OperatedService], Awaitable[Sequence[str]]]
"""Finds the targets of an action. Raises `CommandFailed` for those that do not exist."""
Bring = Callable[[OperatedService], Awaitable[Outcome]]
"""Does the work of a row that leaves it to its command."""


def _operator_name() -> str:
    """Return the user of this command and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user: a container with an arbitrary id
        user = "unknown user"
    return f"{user}@{socket.gethostname()}"


def act(name: str, targets: Sequence[str] | Find, work: Bring | None = None, **details: Any) -> Outcome:
    """Carry out an action; ``details`` are those of its `Order`. Without targets nothing is done or recorded.

    Problems with targets are left to `raise_problems`, so that a command can print first what was done.
    """

    async def carry_out(service: OperatedService) -> Outcome:
        found = targets if isinstance(targets, Sequence) else await targets(service)
        if not found:
            return Outcome()
        order = Order(found, who=_operator_name(), **details)
        return await Operations(service).carry_out(name, order, None if work is None else partial(work, service))

    outcome = on_service(carry_out)
    if outcome.entry.who and not sys.stderr.isatty():  # at a terminal the command says it
        log = {"event": EVENT, **outcome.entry.fields(), "timestamp": datetime.now(UTC).isoformat()}
        click.echo(json.dumps(log), err=True)
    return outcome


def raise_problems(outcome: Outcome) -> None:
    """Raise `CommandFailed` if targets could not be changed, `UsageError` if one of them cannot exist."""
    if outcome.problems:
        wrong = any(isinstance(each, InvalidTarget | NoSuchTarget | InvalidId) for each in outcome.problems.values())
        raise (UsageError if wrong else CommandFailed)(*outcome.sentences())
