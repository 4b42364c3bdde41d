"""``evidence``: list, show, hold, export and discard what is kept of blocked, held and reported media."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from avion_media.cli.output import (
    json_option,
    print_found,
    print_json,
    print_lines,
    print_table,
    read_id,
    requested_at_option,
)
from avion_media.cli.problems import CommandFailed
from avion_media.cli.resources import act_on, on_service
from avion_media.operations import evidence


@click.group("evidence")
def evidence_command() -> None:
    """List, show, hold, export and discard the evidence of media."""


@evidence_command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Show of which media something is kept, and until when."""
    found = on_service(lambda runtime: evidence.listed(runtime.moderation.evidence))
    names = "media_id", "kept_until", "blocked_at", "reported_at", "ground", "size_bytes"
    columns = "media item", "kept until", "blocked", "reported", "ground", "bytes"
    rows = [[each.get(name, "") for name in names] for each in found]
    print_found(found, columns, rows, as_json=as_json)


@evidence_command.command("show")
@click.argument("media_id")
@json_option
def show_command(media_id: str, as_json: bool) -> None:
    """Show the record of the evidence of a media item, and its files."""
    any_id = read_id(media_id)
    found = on_service(lambda runtime: evidence.shown(runtime.moderation.evidence, any_id))
    if found is None:
        raise CommandFailed(f"{media_id}: nothing is kept of it")
    if as_json:
        print_json(found)
        return
    print_table(("", ""), [(name.replace("_", " "), value) for name, value in found.items() if name != "files"])
    print_table(("file", "bytes"), list(found["files"].items()))


@evidence_command.command("hold")
@click.argument("media_id")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Keep it at least to the end of this day (UTC).")
@click.option("--report", "note", required=True, help="What was reported, or who asks to keep it.")
@requested_at_option
@json_option
def hold_command(media_id: str, until: datetime | None, note: str, requested_at: str, as_json: bool) -> None:
    """Record a report, and keep the files. Moderators find the media item in `review list` until they decide."""
    last = "" if until is None else until.replace(hour=23, minute=59, second=59).isoformat()
    facts = act_on("hold_evidence", str(read_id(media_id)), note=note, until=last, requested_at=requested_at)
    print_lines({"media_id": media_id, **facts}, [f"{media_id}: kept until {facts['kept_until']}"], as_json=as_json)


@evidence_command.command("export")
@click.argument("media_id")
@click.argument("path", metavar="FILE", type=click.Path(exists=False, dir_okay=False, path_type=Path))
@json_option
def export_command(media_id: str, path: Path, as_json: bool) -> None:
    """Write one archive: files, hashes, records, audit entries. An existing file is not overwritten."""
    try:
        act_on("export_evidence", str(read_id(media_id)), save_to=path)
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from None
    print_lines({"media_id": media_id, "file": str(path)}, [f"{media_id}: {path}"], as_json=as_json)


@evidence_command.command("discard")
@click.argument("media_id")
@click.option("--reason", "note", default="", help="Why. Required before the evidence has reached its end.")
@json_option
def discard_command(media_id: str, note: str, as_json: bool) -> None:
    """Remove the evidence of a media item for good. An unblock cannot restore the media item then."""
    act_on("discard_evidence", str(read_id(media_id)), note=note)
    print_lines({"discarded": media_id}, [f"{media_id}: evidence discarded"], as_json=as_json)
