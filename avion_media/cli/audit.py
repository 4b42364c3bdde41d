"""``avion-media audit``: the last actions of operators."""

from __future__ import annotations

from dataclasses import asdict

import click

from avion_media.cli.output import json_option, print_found
from avion_media.cli.resources import on_service
from avion_media.operations.inspection import format_time
from avion_media.operations.table import Operations


@click.command("audit")
@click.argument("text", required=False, default="")
@json_option
def audit_command(text: str, as_json: bool) -> None:
    """List the last 50 actions of operators, newest first. With TEXT: those with it in a field, or on that day (UTC).

    Redis keeps the last 1,000 actions; the log has all of them, as operator.action.
    """
    entries, _older = on_service(lambda runtime: Operations(runtime).recorded(text=text))
    print_found(
        [{"at": format_time(each.at), **asdict(each)} for each in entries],
        ["time", "who", "action", "targets", "result", "note"],
        [(format_time(each.at), each.who, each.action, each.targets, each.result, each.note) for each in entries],
        as_json=as_json,
    )
