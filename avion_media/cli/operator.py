"""Logs on stderr what an operator does by a command, with the operator's name."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, datetime

import click


def operator_name() -> str:
    """Return the user of this command and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user: a container with an arbitrary id
        user = "unknown user"
    return f"{user}@{socket.gethostname()}"


def log_action(action: str, **details: object) -> None:
    """Log what an operator has done by a command."""
    event = {"event": f"operator.{action}", "by": operator_name(), **details}
    click.echo(json.dumps({**event, "timestamp": datetime.now(UTC).isoformat()}), err=True)
