"""``avion-media undelete``: take a deletion back, as long as its delay runs."""

from __future__ import annotations

from functools import partial

import click

from avion_media.cli.output import (
    CommandFailed,
    UsageError,
    json_option,
    load_config,
    owner_option,
    print_json,
    read_id,
)
from avion_media.cli.resources import open_resources, run_directly
from avion_media.config import Config
from avion_media.deletion import DeletionJournal, DeletionRecord, DeletionRecords, JournalReplay, undelete
from avion_media.domain.ids import AnyId
from avion_media.owners import OwnerIndex


@click.command("undelete")
@click.argument("media_ids", nargs=-1)
@owner_option("Also all media of this owner that are deleted.")
@json_option
def undelete_command(media_ids: tuple[str, ...], owner: str, as_json: bool) -> None:
    """Take deletions back within DELETE__DELAY: the media are served again, their objects stay."""
    if not media_ids and not owner:
        raise UsageError("give media ids, or --owner")
    any_ids = [read_id(media_id) for media_id in media_ids]
    config = load_config()
    outcome = run_directly(lambda: _undelete_all(config, any_ids, owner))
    undone = [media_id for media_id, problem in outcome.items() if problem is None]
    problems = {media_id: problem for media_id, problem in outcome.items() if problem is not None}
    if as_json:
        print_json({"undeleted": undone, "problems": problems})
    else:
        for media_id in undone:
            click.echo(f"{media_id}: restored")
    if problems:
        raise CommandFailed(*(f"{media_id}: {problem}" for media_id, problem in problems.items()))


async def _undelete_all(config: Config, any_ids: list[AnyId], owner: str) -> dict[str, str | None]:
    async with open_resources(config) as resources:
        journal = DeletionJournal(resources.store, config.delete.delay)
        replay = JournalReplay(resources.redis, journal)
        restore = partial(undelete, resources.store.get(), resources.redis, replay)
        outcome = await restore(any_ids) if any_ids else {}
        if owner:
            records = DeletionRecords(resources.redis)
            async for page in OwnerIndex(resources.store).media(owner):
                known = await records.get_many([each.media_id.text for each in page])
                deleted = [each.media_id for each in page if _is_deleted(known.get(each.media_id.text))]
                outcome |= await restore(deleted) if deleted else {}
        return outcome


def _is_deleted(record: DeletionRecord | None) -> bool:
    return record is not None and record.is_deleted
