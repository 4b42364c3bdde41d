"""``avion-media init``."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from avion_media.backends.store import StoreRefused
from avion_media.cli.operator import act
from avion_media.cli.output import CommandFailed, json_option, load_config, print_json, print_problem
from avion_media.common.settings import PREFIX
from avion_media.config import Config
from avion_media.operations.doctor import CheckResult, CheckStatus, examine_forgeries
from avion_media.operations.operation import OperatedService, Outcome
from avion_media.operations.setup import prepare


@click.command("init")
@json_option
def init_command(as_json: bool) -> None:
    """Create what is missing: bucket, CORS, lifecycle rules, public-access block, consumer groups. Safe to repeat.

    Then it tries to forge uploads, as a client with an upload URL could. If that works, the exit status is 1, and the
    output says what to change.
    """
    config = load_config()
    bucket = config.s3.bucket

    async def run(_service: OperatedService) -> Outcome:
        try:
            created, warnings = await prepare(config)
        except StoreRefused as error:
            problem = f"the object store refuses the bucket {bucket}: {error} (see {PREFIX}S3__BUCKET)"
            raise CommandFailed(problem) from None
        found = {"created": created, "warnings": warnings, "problems": await _problems(config)}
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


async def _problems(config: Config) -> list[CheckResult]:
    return [each for each in await examine_forgeries(config) if each.status is not CheckStatus.OK]
