"""The command line: one file per group of commands, loaded when it is called."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import click

from avion_media.cli.problems import CommandFailed, UsageError, print_problem

# command -> the module that has it, under the name `<command>_command`, and what the list of commands says of it
_COMMANDS = {
    "serve": ("serve", "Run the service."),
    "dev": ("dev", "Run the service with a Redis and an S3 store of its own, to try it."),
    "init": ("doctor", "Create the bucket and its rules, and check them."),
    "upload": ("media", "Upload files as a client does, and wait for the result."),
    "import": ("importing", "Import media of another system."),
    "cache": ("media", "Have a remote media item fetched, and wait for the result."),
    "status": ("media", "Show the status of one media item."),
    "delete": ("deletion", "Delete media, as another service does."),
    "undelete": ("deletion", "Undo deletions within DELETE__DELAY."),
    "block": ("moderation", "Block a media item and its copies."),
    "unblock": ("moderation", "End a block."),
    "evidence": ("evidence", "List, show, hold, export and discard the evidence of media."),
    "hosts": ("hosts", "Block, list, purge and measure the hosts of remote media."),
    "blocklist": ("moderation", "Show, import and check block lists."),
    "review": ("moderation", "List, release or block media that wait for a moderator."),
    "audit": ("audit", "List, check and export what operators did and services changed."),
    "tokens": ("tokens", "Rotate the keys that sign the tokens of private media."),
    "inspect": ("inspect", "Show everything that is stored about one media item."),
    "usage": ("usage", "Show the media of an owner, by kind and month."),
    "owner": ("owner", "Write an archive of all that an owner has uploaded."),
    "queues": ("queues", "Show, pause and resume the queues."),
    "dlq": ("dlq", "List, show, replay and drop dead letters: tasks that failed for good."),
    "jobs": ("queues", "Show and cancel bulk jobs."),
    "webhooks": ("webhooks", "Test the endpoints of webhooks."),
    "sweep": ("sweep", "Remove objects that are not needed any more, and queue lost tasks again."),
    "tree": ("tree", "Show the live tree: states, restarts, last errors, uptimes."),
    "chaos": ("tree", "Kill nodes of the live tree at random."),
    "doctor": ("doctor", "Check all that the service relies on."),
    "config": ("serve", "Print the effective configuration, with secrets masked."),
}
_ALIASES = {"why": "inspect"}  # not listed
EXIT_FAILED = 1
EXIT_USAGE = 2


class _LazyGroup(click.Group):
    """Imports a command's module when the command is called: `--help` loads none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        loaded: Any = importlib.import_module(f"avion_media.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(loaded, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_module, summary) in _COMMANDS.items()])


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
    except ImportError as error:
        print_problem([f"a library that this command needs cannot be loaded: {error}"])
        sys.exit(EXIT_USAGE)
    except UsageError as error:
        print_problem(error.lines)
        sys.exit(EXIT_USAGE)
    except CommandFailed as error:
        print_problem(error.lines)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
