"""``avion-media inspect``: all that store and Redis have of one media item."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.markup import escape

from avion_media.cli.output import console, json_option, load_config, print_json, read_id, read_url
from avion_media.cli.problems import CommandFailed, sanitize
from avion_media.cli.resources import on_service
from avion_media.common.ids import id_or_none
from avion_media.operations.inspection import id_meant, is_unknown, media_report
from avion_media.process.runtime import Runtime

_NONE = {"status": "none on Redis (avion-media status also reads the bucket)"}


@click.command("inspect")
@click.argument("subject", metavar="ID")
@json_option
def inspect_command(subject: str, as_json: bool) -> None:
    """Show everything that is stored about one media item: status, deletion, moderation, objects, tasks, events.

    ID is a media id, the id of a remote file, a URL on the origin, or the URL of a remote media item.
    """
    _check(subject)
    url_ttl_s = load_config().upload.url_ttl

    async def report(runtime: Runtime) -> dict[str, Any]:
        await runtime.items.read_remote_ids()
        any_id = id_meant(subject, runtime.items.remote_ids)
        assert any_id is not None  # it was checked
        return await media_report(runtime.items, any_id, url_ttl_s=url_ttl_s)

    known = on_service(report)
    if as_json:
        print_json(known)
    else:
        _print(known)
    if is_unknown(known):
        raise CommandFailed(f"{known['media_id']}: no media item has this id or URL")


def _check(text: str) -> None:
    if "://" in text:
        read_url(text)
    elif not (id_or_none(text) or id_or_none(text.upper())):
        read_id(text)


def _print(known: dict[str, Any]) -> None:
    out = console()
    for name, value in known.items():
        if isinstance(value, list):
            out.print(f"[bold]{name}[/bold]{'' if value else '  none'}")
            for each in value:
                out.print("  " + escape("  ".join(f"{key}={_short(part)}" for key, part in each.items())))
        elif isinstance(value, dict):
            out.print(f"[bold]{name}[/bold]")
            for key, part in value.items():
                out.print(f"  {key:<16} {escape(_short(part))}")
        else:
            out.print(f"[bold]{name}[/bold]  {escape(_short(value if value is not None else _NONE.get(name, 'none')))}")


def _short(value: object) -> str:
    return sanitize(json.dumps(value) if isinstance(value, dict | list) else str(value))
