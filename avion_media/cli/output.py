"""What the commands print: tables or JSON on standard output, problems on standard error."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from avion_media.config import PREFIX, Config, ConfigError, load
from avion_media.domain.ids import AnyId, InvalidId, UnknownFormat, parse_any_id
from avion_media.domain.owners import is_owner
from avion_media.remote.guard import AddressGuard

# Control characters (escape sequences begin with one), what breaks lines, and what cannot be encoded.
_STEERING = frozenset({"Cc", "Cs", "Zl", "Zp"})

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


class Failure(Exception):
    """The command failed: exit status 1. One helpful line, or a few."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Misuse(Failure):
    """Wrong usage or configuration: exit status 2."""


def owner_option(description: str) -> Callable[[Any], Any]:
    """``--owner OWNER``, checked."""
    return click.option("--owner", default="", callback=check_owner, help=description)


def check_owner(_context: click.Context, _parameter: click.Parameter, owner: str) -> str:
    """Return an owner that a user typed; `Misuse` when it cannot be one."""
    if owner and not is_owner(owner):
        raise Misuse(f"{owner!r} cannot be an owner: 1 to 64 letters, digits and . _ : -")
    return owner


def load_config() -> Config:
    """The configuration, or `Misuse` that lists everything wrong with it."""
    try:
        config = load(on_terminal=sys.stderr.isatty())
    except ConfigError as error:
        raise Misuse(*error.problems) from None
    for name in ("deny_hosts", "allow_hosts"):
        try:
            AddressGuard(deny_hosts=getattr(config.remote, name))
        except ValueError as error:
            raise Misuse(f"{PREFIX}REMOTE__{name.upper()}: {error}") from None
    return config


def read_id(text: str) -> AnyId:
    """The medium that an argument names; `Misuse` when it cannot be an id, `Failure` when its format is not known."""
    try:
        return parse_any_id(text)
    except UnknownFormat as error:
        raise Failure(f"{text}: media item not found: {error}") from None
    except InvalidId as error:
        raise Misuse(f"{text}: {error}") from None


def print_problem(lines: Iterable[str]) -> None:
    """Say on standard error what went wrong."""
    for line in lines:
        click.echo("\n".join(map(harmless, f"avion-media: {line}".split("\n"))), err=True)


def print_json(data: Any) -> None:
    """One JSON document on standard output. Bytes that are not Unicode, as in a file's name, are escaped."""
    document = json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n"
    sys.stdout.write(document.encode(errors="backslashreplace").decode())


def console() -> Console:
    """A terminal on standard output; plain text, as wide as it takes, when it is none."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)


def harmless(text: str) -> str:
    """Text of others, such as a file's name or a stranger's URL, that cannot steer the terminal any more."""
    return "".join(ascii(each)[1:-1] if unicodedata.category(each) in _STEERING else each for each in text)


def verbatim(text: str) -> Text:
    """The same for the console: it does not mark up anything either."""
    return Text(harmless(text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table that stays readable without colours. Numbers are put right, cells shown as they are."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [[str(cell) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        numeric = bool(shown) and all(row[index].replace(".", "").rstrip("s%").isdigit() for row in shown)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in shown:
        table.add_row(*map(verbatim, row))
    console().print(table)
