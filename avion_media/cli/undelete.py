"""``avion-media undelete``: take a deletion back, as long as its delay runs."""

from __future__ import annotations

import click

from avion_media.cli.output import Failure, json_option, load_config, print_json, read_id
from avion_media.cli.resources import directly, open_resources
from avion_media.config import Config
from avion_media.domain.ids import AnyId
from avion_media.tasks.undelete import undelete


@click.command("undelete")
@click.argument("media_ids", nargs=-1, required=True)
@json_option
def undelete_command(media_ids: tuple[str, ...], as_json: bool) -> None:
    """Take deletions back within DELETE__DELAY: the media are served again, their objects stay."""
    any_ids = [read_id(media_id) for media_id in media_ids]
    config = load_config()
    undone, problems = directly(lambda: _undelete_all(config, any_ids))
    if as_json:
        print_json({"undeleted": undone, "problems": problems})
    else:
        for media_id in undone:
            click.echo(f"{media_id}: restored")
    if problems:
        raise Failure(*(f"{media_id}: {problem}" for media_id, problem in problems.items()))


async def _undelete_all(config: Config, any_ids: list[AnyId]) -> tuple[list[str], dict[str, str]]:
    undone: list[str] = []
    problems: dict[str, str] = {}
    async with open_resources(config) as resources:
        for any_id in any_ids:
            problem = await undelete(resources.store.get(), resources.redis, any_id, config.delete.delay)
            if problem is None:
                undone.append(str(any_id))
            else:
                problems[str(any_id)] = problem
    return undone, problems
