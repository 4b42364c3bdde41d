"""How a command fails, and how it says so. Imports next to nothing, as the table of the commands does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import click

# Control characters (escape sequences begin with one), line separators, and characters that cannot be encoded.
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class CommandFailed(Exception):
    """The command failed, with exit status 1. It has one helpful line, or a few."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class UsageError(CommandFailed):
    """Wrong usage or configuration: exit status 2."""


def print_problem(lines: Iterable[str]) -> None:
    """Print on standard error what went wrong."""
    for line in lines:
        click.echo("\n".join(map(sanitize, f"avion-media: {line}".split("\n"))), err=True)


def sanitize(text: str) -> str:
    """Return untrusted text, such as a file's name or a remote URL, in a form that cannot control the terminal."""
    return "".join(ascii(each)[1:-1] if unicodedata.category(each) in _CONTROL_CATEGORIES else each for each in text)
