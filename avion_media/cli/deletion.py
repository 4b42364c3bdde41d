"""``delete`` and ``undelete``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from avion_media.cli.output import json_option, owner_option, print_json, print_lines, read_id
from avion_media.cli.problems import UsageError, print_problem
from avion_media.cli.resources import act, raise_problems
from avion_media.operations.operation import OWNER


def _targets(media_ids: Sequence[str], owner: str) -> list[str]:
    """Return the media and the owner that a command names. Raises `UsageError` if it names none."""
    if not media_ids and not owner:
        raise UsageError("give media ids, or --owner")
    return [*(str(read_id(media_id)) for media_id in media_ids), *([OWNER + owner] if owner else [])]


@click.command("delete")
@click.argument("media_ids", nargs=-1)
@owner_option("Also all media of this owner.")
@json_option
def delete_command(media_ids: tuple[str, ...], owner: str, as_json: bool) -> None:
    """Delete media as another service does: by an entry of the stream `drop_deleted`.

    `undelete` undoes it within DELETE__DELAY.
    """
    outcome = act("delete", _targets(media_ids, owner))
    deleted = list(outcome.done)
    if as_json:
        print_json({"deleted": deleted})
    elif deleted:
        print_problem([f"deletions requested: {len(deleted)}; the origin answers 410 for them within seconds"])
    else:
        print_problem([f"owner {owner} has no media"])


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
    targets = _targets(media_ids, owner)
    if rate is not None:
        outcome = act("undelete_all", targets, rate=rate)
        raise_problems(outcome)
        job = outcome.done[targets[0]]
        document = {"job": job["job"], "media": job["total"], "owner": owner}
        print_lines(document, [f"{job['job']}: {rate:g} a second"], as_json=as_json)
        return
    outcome = act("undelete", targets)
    problems = {media_id: str(problem) for media_id, problem in outcome.problems.items()}
    document = {"undeleted": list(outcome.done), "problems": problems}
    print_lines(document, [f"{media_id}: restored" for media_id in outcome.done], as_json=as_json)
    raise_problems(outcome)
