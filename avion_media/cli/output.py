"""What the commands print: tables or JSON on standard output, problems on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avion_media.cli.problems import CommandFailed, UsageError, sanitize
from avion_media.common.clock import read_time
from avion_media.common.ids import AnyId, InvalidId, UnknownFormat, parse_any_id
from avion_media.common.media import is_owner
from avion_media.common.settings import PREFIX
from avion_media.config import Config, ConfigError, load
from avion_media.items.moderation import MAX_NOTE, notice_time
from guarded_fetch import AddressGuard, InvalidUrl, RemoteUrl, parse_remote_url

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def _check_note(_context: click.Context, _parameter: click.Parameter, note: str) -> str:
    if len(note) > MAX_NOTE:
        raise UsageError(f"--note: longer than {MAX_NOTE} characters")
    return note


note_option = click.option("--note", default="", callback=_check_note, help="For the record.")


def _check_requested_at(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    try:
        return notice_time(read_time(text)) if text else ""
    except ValueError as error:
        raise UsageError(f"--requested-at: {error}") from None


requested_at_option = click.option(
    "--requested-at",
    default="",
    callback=_check_requested_at,
    help="When the notice arrived: ISO 8601, UTC unless it says otherwise.",
)


def owner_option(description: str) -> Callable[[Any], Any]:
    """Return the option ``--owner OWNER``, which checks its value."""
    return click.option("--owner", default="", callback=check_owner, help=description)


def check_owner(_context: click.Context, _parameter: click.Parameter, owner: str) -> str:
    """Return an owner that a user typed. Raises `UsageError` if it cannot be one."""
    if owner and not is_owner(owner):
        raise UsageError(f"{owner!r} cannot be an owner: 1 to 64 letters, digits and . _ : -")
    return owner


def load_config() -> Config:
    """Return the configuration. Raises `UsageError`, which lists every problem with it."""
    try:
        config = load(on_terminal=sys.stderr.isatty())
    except ConfigError as error:
        raise UsageError(*error.problems) from None
    for name in ("deny_hosts", "allow_hosts"):
        try:
            AddressGuard(deny_hosts=getattr(config.remote, name))
        except ValueError as error:
            raise UsageError(f"{PREFIX}REMOTE__{name.upper()}: {error}") from None
    return config


def read_id(text: str) -> AnyId:
    """Return the media item that an argument names.

    Raises `UsageError` if it cannot be an id, `CommandFailed` if its format is not known.
    """
    try:
        return parse_any_id(text)
    except UnknownFormat as error:
        raise CommandFailed(f"{text}: media item not found: {error}") from None
    except InvalidId as error:
        raise UsageError(f"{text}: {error}") from None


def read_url(text: str) -> RemoteUrl:
    """Return the URL of a remote media item that an argument names. Raises `UsageError` if it is none."""
    try:
        return parse_remote_url(text)
    except InvalidUrl as error:
        raise UsageError(f"{text}: {error}") from None


def print_json(data: Any) -> None:
    """Print one JSON document on standard output. Bytes that are not Unicode, as in a file's name, are escaped."""
    document = json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n"
    sys.stdout.write(document.encode(errors="backslashreplace").decode())


def console() -> Console:
    """Return a console on standard output. If that is not a terminal, the text is plain, and lines are not wrapped."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)


def plain_text(text: str) -> Text:
    """Return sanitized text for the console, which does not read it as markup."""
    return Text(sanitize(text))


def print_lines(document: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command has to report: lines for people, or a document for programs."""
    if as_json:
        print_json(document)
    else:
        for line in lines:
            click.echo(line)


def print_found(document: Any, columns: Sequence[str], rows: Iterable[Sequence[object]], *, as_json: bool) -> None:
    """Print what a command has found: a table for people, or a document for programs."""
    if as_json:
        print_json(document)
    else:
        print_table(columns, rows)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table that is readable without colours. Numbers are right-aligned, cells shown as they are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [[str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(shown) and all(row[index].replace(".", "").rstrip("s%").isdigit() for row in shown)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in shown:
        table.add_row(*map(plain_text, row))
    console().print(table)
