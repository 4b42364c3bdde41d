"""``owner export``: all that an owner has uploaded, as one archive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import click
import trio
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from avion_media.cli.output import check_owner
from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.cli.resources import act
from avion_media.common.settings import format_size
from avion_media.operations.operation import OWNER, Outcome
from avion_media.operations.owner_export import Exported, export
from avion_media.process.runtime import Runtime

STDOUT = "-"
_Write = Callable[[bytes], object]


@click.group("owner")
def owner_command() -> None:
    """Export what an owner has uploaded."""


@owner_command.command("export")
@click.argument("owner", callback=check_owner)
@click.argument("file", required=False, default="", type=click.Path(dir_okay=False, allow_dash=True))
def export_command(owner: str, file: str) -> None:
    """Write an archive (ZIP) of all originals of OWNER, also of private media, with a table of them.

    FILE is owner-OWNER.zip by default, and must not exist; - is the standard output.
    """
    if file == STDOUT and sys.stdout.isatty():
        raise UsageError("the archive would be written to the terminal: give a file, or pipe the output")
    exported = Exported()
    path = file or f"owner-{owner}.zip"
    try:
        with _target(path) as write, _progress(exported) as progress:

            async def work(runtime: Runtime) -> Outcome:
                async with aclosing(export(runtime, owner, exported, lambda _: progress())) as pieces:
                    async for piece in pieces:  # in a thread, because a pipe or a disk can be slow
                        await trio.to_thread.run_sync(write, piece)
                return Outcome({f"{OWNER}{owner}": {}}, text=f"{exported} of the owner exported.")

            act("export_owner", [f"{OWNER}{owner}"], work)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    click.echo(f"owner {owner}: {exported}, {format_size(exported.size_bytes)}: {path}", err=True)


@contextmanager
def _target(path: str) -> Iterator[_Write]:
    """Open the file for an archive; remove it again if the archive does not become complete."""
    if path == STDOUT:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    with Path(path).open("xb") as file:
        try:
            yield file.write
        except BaseException:
            Path(path).unlink()
            raise


@contextmanager
def _progress(exported: Exported) -> Iterator[Callable[[], None]]:
    """Show on standard error what was exported, if that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        shown = progress.add_task("Exporting")
        yield lambda: progress.update(shown, description=f"{exported}, {format_size(exported.size_bytes)}")
