"""``avion-media undelete``: undoes a deletion before its delay ends."""

from __future__ import annotations

import click

from avion_media.backends.queue import BulkJob, BulkJobs
from avion_media.backends.redis import open_redis
from avion_media.cli.operator import log_action, operator_name
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
from avion_media.common.ids import AnyId
from avion_media.common.tasks import DELETE_QUEUE
from avion_media.config import Config
from avion_media.items.deletion import DeletionJournal, DeletionRecord, JournalReplay, undelete


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
    any_ids = [read_id(media_id) for media_id in media_ids]
    config = load_config()
    if rate is not None:
        _begin_job(config, [str(each) for each in any_ids], owner, rate, as_json)
        return
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


def _begin_job(config: Config, media_ids: list[str], owner: str, rate: float, as_json: bool) -> None:
    async def begin() -> BulkJob | None:
        async with open_redis(config.redis.url, timeout_s=config.redis.timeout) as redis:
            jobs = BulkJobs(redis, DELETE_QUEUE)
            return await jobs.begin_undelete(media_ids, owner=owner, rate=rate, by=operator_name())

    job = run_directly(begin)
    if job is None:
        raise CommandFailed("an earlier bulk undelete is not done yet")
    log_action("job_begun", job=job.name, rate=rate, media=len(media_ids), owner=owner)
    if as_json:
        print_json({"job": job.name, "media": job.total, "owner": owner})
    else:
        click.echo(f"{job.name}: {rate:g} a second")


async def _undelete_all(config: Config, any_ids: list[AnyId], owner: str) -> dict[str, str | None]:
    async with open_resources(config) as resources:
        replay = JournalReplay(resources.items, DeletionJournal(resources.store, config.delete.delay))
        outcome = await undelete(replay, any_ids) if any_ids else {}
        if owner:
            async for page in resources.items.owners.media(owner):
                known = await replay.records.get_many([each.media_id.text for each in page])
                deleted = [each.media_id for each in page if _is_deleted(known.get(each.media_id.text))]
                outcome |= await undelete(replay, deleted) if deleted else {}
        return outcome


def _is_deleted(record: DeletionRecord | None) -> bool:
    return record is not None and record.is_deleted
