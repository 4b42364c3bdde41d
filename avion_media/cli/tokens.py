"""``tokens``: the keys that sign the tokens of private media."""

from __future__ import annotations

import click

from avion_media.cli.output import json_option, print_lines
from avion_media.cli.resources import act_on
from avion_media.common.keys import TOKEN_SECRET


@click.group("tokens")
def tokens_command() -> None:
    """Rotate the keys that sign the tokens of private media."""


@tokens_command.command("rotate")
@json_option
def rotate_command(as_json: bool) -> None:
    """Add a key. It signs after a minute; earlier keys verify for PRIVATE__MAX_TTL.

    To refuse the tokens of a media item at once, revoke them.
    """
    number = act_on("rotate_tokens", TOKEN_SECRET)["number"]
    print_lines({"number": number}, [f"key {number} signs in a minute"], as_json=as_json)
