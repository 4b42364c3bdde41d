"""``avion-media undelete``: undoes a deletion before its delay ends."""

from __future__ import annotations

import click

from avion_media.cli.operator import act, raise_problems
from avion_media.cli.output import UsageError, json_option, owner_option, print_json, read_id
from avion_media.operations.operation import OWNER


@click.command("undelete")
@click.argument("media_ids", nargs=-1)
@owner_option("Also all media of this owner that are deleted.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Let the service undelete them, at this rate per second (see: avion-media jobs).",
)
@json_option
def undelete_command(media_ids: tuple[str, ...], owner: str, rate: float | None, as_json: bool) -> None:
    """Undo deletions within DELETE__DELAY: the media are served again, and their objects stay."""
    if not media_ids and not owner:
        raise UsageError("give media ids, or --owner")
    targets = [*(str(read_id(media_id)) for media_id in media_ids), *([OWNER + owner] if owner else [])]
    if rate is not None:
        _begin_job(targets, owner, rate, as_json)
        return
    outcome = act("undelete", targets)
    if as_json:
        problems = {media_id: str(problem) for media_id, problem in outcome.problems.items()}
        print_json({"undeleted": list(outcome.done), "problems": problems})
    else:
        for media_id in outcome.done:
            click.echo(f"{media_id}: restored")
    raise_problems(outcome)


def _begin_job(targets: list[str], owner: str, rate: float, as_json: bool) -> None:
    outcome = act("undelete_all", targets, rate=rate)
    raise_problems(outcome)
    job = outcome.done[targets[0]]
    if as_json:
        print_json({"job": job["job"], "media": job["total"], "owner": owner})
    else:
        click.echo(f"{job['job']}: {rate:g} a second")
