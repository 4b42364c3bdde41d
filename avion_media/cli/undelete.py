"""``avion-media undelete``: take a deletion back, as long as its delay runs."""

from __future__ import annotations

import click

from avion_media.cli.output import Failure, json_option, load_config, print_json, read_id
from avion_media.cli.resources import directly, open_resources
from avion_media.config import Config
from avion_media.deletion import DeletionJournal, JournalReplay, undelete
from avion_media.domain.ids import AnyId


@click.command("undelete")
@click.argument("media_ids", nargs=-1, required=True)
@json_option
def undelete_command(media_ids: tuple[str, ...], as_json: bool) -> None:
    """Take deletions back within DELETE__DELAY: the media are served again, their objects stay."""
    any_ids = [read_id(media_id) for media_id in media_ids]
    config = load_config()
    outcome = directly(lambda: _undelete_all(config, any_ids))
    undone = [media_id for media_id, problem in outcome.items() if problem is None]
    problems = {media_id: problem for media_id, problem in outcome.items() if problem is not None}
    if as_json:
        print_json({"undeleted": undone, "problems": problems})
    else:
        for media_id in undone:
            click.echo(f"{media_id}: restored")
    if problems:
        raise Failure(*(f"{media_id}: {problem}" for media_id, problem in problems.items()))


async def _undelete_all(config: Config, any_ids: list[AnyId]) -> dict[str, str | None]:
    async with open_resources(config) as resources:
        journal = DeletionJournal(resources.store, config.delete.delay)
        replay = JournalReplay(resources.redis, journal)
        return await undelete(resources.store.get(), resources.redis, replay, any_ids)
