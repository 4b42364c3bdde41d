"""The command line: one file per group of commands, loaded when it is called."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from avion_media.cli.output import CommandFailed, UsageError, print_problem

# command -> the module that has it, under the name `<command>_command`
_COMMANDS = {
    "serve": "serve",
    "dev": "dev",
    "init": "doctor",
    "upload": "media",
    "import": "importing",
    "cache": "media",
    "status": "media",
    "delete": "deletion",
    "undelete": "deletion",
    "block": "moderation",
    "unblock": "moderation",
    "blocklist": "moderation",
    "review": "moderation",
    "inspect": "inspect",
    "usage": "usage",
    "queues": "queues",
    "dlq": "dlq",
    "jobs": "queues",
    "sweep": "sweep",
    "tree": "tree",
    "chaos": "tree",
    "doctor": "doctor",
    "config": "serve",
}
_ALIASES = {"why": "inspect"}  # not listed
EXIT_FAILED = 1
EXIT_USAGE = 2


class _LazyGroup(click.Group):
    """Imports a command's module when it is needed: `--help` and `queues` do not load the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        loaded: Any = importlib.import_module(f"avion_media.cli.{module}")
        command: click.Command = getattr(loaded, f"{cmd_name}_command")
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="avion-media")
def group() -> None:
    """The media service of the Avion network.

    Settings are environment variables AVION_MEDIA_<SECTION>__<NAME>; `avion-media config` shows them all.
    """


def command_line() -> None:
    """Run one command. Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 130 Ctrl-C."""
    logging.getLogger().addHandler(logging.NullHandler())  # a command prints its problem itself, once
    try:
        group(prog_name="avion-media", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.Abort:
        sys.exit(130)
    except UsageError as error:
        print_problem(error.lines)
        sys.exit(EXIT_USAGE)
    except CommandFailed as error:
        print_problem(error.lines)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
