"""``avion-media init`` and ``doctor``: prepare, and examine, what the service relies on."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from functools import partial

import click
from rich.markup import escape

from avion_media.backends.store import StoreRefused
from avion_media.cli.output import console, json_option, load_config, print_json
from avion_media.cli.problems import CommandFailed, print_problem
from avion_media.cli.resources import act, run_directly
from avion_media.common.settings import PREFIX
from avion_media.operations.doctor import Area, CheckResult, CheckStatus, Found, examine, examine_forgeries
from avion_media.operations.operation import Outcome, many
from avion_media.operations.setup import prepare
from avion_media.process.runtime import Runtime
from avion_media.servers.files import files_needed

_STYLES = {CheckStatus.OK: "green", CheckStatus.WARNING: "yellow", CheckStatus.FAILED: "bold red"}


@click.command("init")
@click.option("--new-bucket", is_flag=True, help="Create the bucket, although another one had media.")
@json_option
def init_command(new_bucket: bool, as_json: bool) -> None:
    """Create what is missing: bucket, CORS, lifecycle rules, public-access block, consumer groups. Safe to repeat.

    Then it tries to forge uploads, as a client with an upload URL could. If that works, the exit status is 1, and the
    output says what to change. It does not create a bucket in place of a lost one.
    """
    config = load_config()
    bucket = config.s3.bucket

    async def run(_runtime: Runtime) -> Outcome:
        try:
            created, warnings = await prepare(config, new_bucket=new_bucket)
        except StoreRefused as error:
            problem = f"the object store refuses the bucket {bucket}: {error} (see {PREFIX}S3__BUCKET)"
            raise CommandFailed(problem) from None
        problems = [each for each in await examine_forgeries(config) if each.status is not CheckStatus.OK]
        found = {"created": created, "warnings": warnings, "problems": problems}
        return Outcome({bucket: found}, text=f"Created: {', '.join(created) or 'nothing was missing'}.")

    found = act("init", [bucket], run).done[bucket]
    created, warnings, problems = found["created"], found["warnings"], found["problems"]
    if as_json:
        print_json({"created": created, "warnings": warnings, "problems": [asdict(each) for each in problems]})
    else:
        for each in created:
            click.echo(f"created {each}")
        if not created:
            click.echo("nothing was missing")
        print_problem(f"warning: {warning}" for warning in warnings)
        print_problem(f"{each.status}: {each.check}: {each.detail}\n  → {each.impact}" for each in problems)
    if any(each.status is CheckStatus.FAILED for each in problems):
        sys.exit(1)


@click.command("doctor")
@click.argument("areas", nargs=-1, type=click.Choice([str(area) for area in Area]))
@json_option
def doctor_command(areas: tuple[str, ...], as_json: bool) -> None:
    """Check what the service relies on: the store, Redis, the sandbox, native libraries, limits.

    AREAS: store, redis, sandbox, native (libraries), process; all by default. It can run beside the service: it
    writes objects below incoming/doctor-…, and removes them. The exit status is 1 if the service cannot keep one of
    its guarantees here.
    """
    wanted = frozenset(map(Area, areas)) or frozenset(Area)
    show: Found = (lambda _result: None) if as_json else _show
    config = load_config()
    results = run_directly(partial(examine, config, wanted, show, files_needed=files_needed(config)))
    if as_json:
        print_json([asdict(each) for each in results])
    else:
        counts = Counter(each.status for each in results)
        plural = {CheckStatus.WARNING: "warnings"}
        click.echo(", ".join(many(counts[each], each, plural.get(each, each)) for each in CheckStatus if counts[each]))
    if any(each.status is CheckStatus.FAILED for each in results):
        sys.exit(1)


def _show(result: CheckResult) -> None:
    status = f"[{_STYLES[result.status]}]{result.status:<7}[/]"
    detail = f"  [dim]{escape(result.detail)}[/dim]" if result.detail else ""
    out = console()
    out.print(f"{status}  {result.area:<5}  {escape(result.check)}{detail}")
    if result.impact:
        out.print(f"                → {escape(result.impact)}")
