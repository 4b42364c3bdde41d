"""``audit``: shows, checks and exports the audit log in the bucket."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, aclosing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import click

from avion_media.cli.output import json_option, print_json, print_lines
from avion_media.cli.problems import CommandFailed, UsageError, print_problem, sanitize
from avion_media.cli.resources import on_service
from avion_media.operations.log import running_processes
from avion_media.operations.table import Operations
from avion_media.process.audit.reading import AuditQuery
from avion_media.process.audit.record import AuditRecord, Kind
from avion_media.process.audit.verification import Findings, objects, verify
from avion_media.process.runtime import Runtime


def read_time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """Return the time of an option such as ``2026-12-01`` or ``2026-12-01T08:30``, in UTC; None if it is missing."""
    try:
        return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError as error:
        raise click.BadParameter(f"{error} (such as 2026-12-01 or 2026-12-01T08:30, in UTC)") from None


_since_option = click.option("--since", metavar="TIME", callback=read_time, help="From this day or time on (UTC).")
_until_option = click.option("--until", metavar="DAY", callback=read_time, help="To the end of this day (UTC).")


@click.group("audit", invoke_without_command=True)
@_since_option
@click.option("--actor", default="", help="Only of callers and operators whose name contains this.")
@click.option("--action", "actions", multiple=True, help="Only this action; can be repeated.")
@click.option("--target", default="", help="Only with this id or host among the targets.")
@click.option("--text", default="", help="Only with this text in a field, or on this day.")
@click.option("--calls", is_flag=True, help="List the calls of services instead.")
@click.option("--refused", is_flag=True, help="List what was refused instead.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_context
def audit_command(
    context: click.Context,
    since: datetime | None,
    actor: str,
    actions: Sequence[str],
    target: str,
    text: str,
    calls: bool,
    refused: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what operators and moderators did, newest first, by whatever entrance. Times are in UTC.

    What services changed by calls, and what was refused, are lists of their own.
    """
    if context.invoked_subcommand is not None:
        return
    kind = Kind.REFUSED if refused else Kind.CALLS if calls else Kind.PEOPLE
    query = AuditQuery((kind,), text, (), actor, actions, target, since)

    async def load(runtime: Runtime) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        older, operations = "", Operations(runtime, "command")
        while len(found) < limit:
            page, older = await operations.recorded(query, older)
            found += page
            if not older:
                break
        return found[:limit]

    found = on_service(load)
    lines = [sanitize(_line(each)) for each in found] or ["no actions"]
    print_lines([each.document() for each in found], lines, as_json=as_json)


def _line(record: AuditRecord) -> str:
    outcome = "" if record.outcome == "ok" else f"  {record.outcome}"
    return f"{record.time[:19]}Z  {record.actor}  {record.action} {record.targets}{outcome}: {record.note}"


def _read_hashes(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in values:
        process, _, digest = each.rpartition("=")
        if not process or len(digest) != 64:
            raise click.BadParameter("expected PROCESS=HASH, as the log has it in audit.hash")
        found.setdefault(process, []).append(digest)
    return found


@audit_command.command("verify")
@_since_option
@_until_option
@click.option(
    "--hash",
    "hashes",
    metavar="PROCESS=HASH",
    multiple=True,
    callback=_read_hashes,
    help="Require this hash, from audit.hash of the service's log; can be repeated.",
)
@json_option
def verify_command(since: datetime | None, until: datetime | None, hashes: dict[str, list[str]], as_json: bool) -> None:
    """Check that nothing is missing in the audit log, and that nothing was changed. Exit status 1 if there is a gap.

    Reads the whole log, or whole days of it. Of a range, the seams to the days around it are not checked.
    """

    async def check(runtime: Runtime) -> tuple[Findings, str]:
        is_running, warning = await running_processes(runtime)
        first, last = _day(since), _day(until)
        store = runtime.store.get()
        return await verify(store, is_running, since=first, until=last, hashes=hashes), warning

    found, warning = on_service(check)
    if warning:
        print_problem([f"warning: {warning}"])
    if as_json:
        print_json(
            {
                "objects": found.objects,
                "records": found.records,
                "chains": found.chains,
                "gaps": found.gaps,
                "explained": found.explained,
                "running": found.running,
            }
        )
    else:
        for each in (*found.explained, *found.running):
            click.echo(sanitize(each))
        click.echo(f"{found.records} records in {found.objects} objects of {found.chains} chains")
    if found.gaps:
        raise CommandFailed(*map(sanitize, found.gaps))


def _day(time: datetime | None) -> date | None:
    return None if time is None else time.date()


@audit_command.command("export")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@_since_option
@_until_option
def export_command(path: Path, since: datetime | None, until: datetime | None) -> None:
    """Write all records of whole days to FILE, as they are in the bucket: one JSON object a line. `-` is stdout.

    The order is that of days, processes and numbers. An existing file is not overwritten.
    """

    async def export(runtime: Runtime, file: BinaryIO) -> None:
        async with aclosing(objects(runtime.store.get(), _day(since), _day(until))) as groups:
            async for keys, bodies in groups:
                for key in keys:
                    file.write(bodies.get(key, b""))

    with ExitStack() as opened:
        if str(path) == "-":
            file: BinaryIO = sys.stdout.buffer
        else:
            try:
                file = opened.enter_context(path.open("xb"))
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}") from None
        on_service(lambda runtime: export(runtime, file))
