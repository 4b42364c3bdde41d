"""Run every command of ``avion-media`` in one process, and print exit status and first line of each as JSON.

`serve` and `dev` are left out: they do not end by themselves.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
import tempfile
from pathlib import Path

_ID = "01M8D8AHEV0B0647EWDKZFG4Q1"
ARGUMENTS: dict[str, list[str]] = {
    "--help": [],
    "init": [],
    "upload": [__file__],
    "import": [os.devnull],
    "cache": ["https://example.org/picture.png"],
    "status": [_ID],
    "delete": [_ID],
    "undelete": [_ID],
    "block": [_ID],
    "unblock": [_ID],
    "evidence": ["show", _ID],
    "hosts": ["list"],
    "blocklist": ["list"],
    "review": ["list"],
    "audit": [],
    "tokens": ["rotate"],
    "inspect": [_ID],
    "usage": ["owner"],
    "owner": ["export", "alice", str(Path(tempfile.gettempdir(), f"{os.getpid()}.zip"))],
    "queues": [],
    "dlq": ["list"],
    "jobs": [],
    "webhooks": ["test"],
    "sweep": [],
    "tree": [],
    "chaos": ["--seed", "1"],
    "doctor": ["native"],
    "config": ["--roles", "grpc,http"],
}


def ended(command: str) -> tuple[int, str]:
    """Return exit status and first line of one command."""
    from avion_media.cli import command_line

    sys.argv = ["avion-media", command, *ARGUMENTS[command]]
    printed = io.StringIO()
    status = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            command_line()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, printed.getvalue().partition("\n")[0]


def wait_for_nothing() -> None:
    """Have `chaos` give up at once, where what it needs can be loaded."""
    with contextlib.suppress(ImportError):
        from avion_media.cli import tree

        tree._OUT_OF_REACH_S = 0.1


if __name__ == "__main__":
    gc.disable()  # of all modules of the service: a quarter of a second each time
    wait_for_nothing()
    json.dump({each: ended(each) for each in ARGUMENTS}, sys.stdout)
