"""``avion-media undelete``: take a deletion back, as long as its delay runs."""

from __future__ import annotations

import time

import click

from avion_media.cli.output import Failure, json_option, load_config, print_json
from avion_media.cli.resources import Resources, directly, open_resources
from avion_media.config import Config
from avion_media.domain import keys
from avion_media.domain.errors import ObjectMissing
from avion_media.domain.ids import AnyId, InvalidId, parse_any_id
from avion_media.domain.tasks import DELETE_QUEUE
from avion_media.queue import StatusBoard, TaskQueue
from avion_media.tasks.tombstones import tombstones_of
from avion_media.tasks.waiting import FoundTask, Place, each_task


@click.command("undelete")
@click.argument("media_ids", nargs=-1, required=True)
@json_option
def undelete_command(media_ids: tuple[str, ...], as_json: bool) -> None:
    """Take deletions back within DELETE__DELAY: the media are served again, their objects stay."""
    config = load_config()
    any_ids = [_any_id(media_id) for media_id in media_ids]
    undone, problems = directly(lambda: _undelete_all(config, any_ids))
    if as_json:
        print_json({"undeleted": undone, "problems": problems})
    else:
        for media_id in undone:
            click.echo(f"{media_id}: restored")
    if problems:
        raise Failure(*(f"{media_id}: {problem}" for media_id, problem in problems.items()))


def _any_id(media_id: str) -> AnyId:
    try:
        return parse_any_id(media_id)
    except InvalidId as error:
        raise Failure(f"{media_id}: {error}") from None


async def _undelete_all(config: Config, any_ids: list[AnyId]) -> tuple[list[str], dict[str, str]]:
    undone: list[str] = []
    problems: dict[str, str] = {}
    async with open_resources(config) as resources:
        for any_id in any_ids:
            problem = await _undelete(resources, any_id, config.delete.delay)
            if problem is None:
                undone.append(str(any_id))
            else:
                problems[str(any_id)] = problem
    return undone, problems


async def _undelete(resources: Resources, any_id: AnyId, delay_s: float) -> str | None:
    """What is in the way, or None when the deletion was taken back.

    The task goes first, the tombstone after it. Should this end in between, the medium still counts as deleted and the
    sweeper queues its removal again; the other way round it would be served until it vanishes.
    """
    redis = resources.redis.get()
    media_id = str(any_id)
    deleted_at = (await tombstones_of(redis, [media_id])).get(media_id)
    if deleted_at is None:
        return "it is not deleted"
    if deleted_at.timestamp() + delay_s <= time.time():
        return "too late: its delay is over"
    try:
        await resources.store.get().head(keys.original(any_id))
    except ObjectMissing:
        return "too late: its original is gone"
    cancelled = await TaskQueue(redis, DELETE_QUEUE).cancel_delayed(f"delete-{media_id}")
    if not cancelled and await _is_being_removed(resources, media_id):
        return "too late: it is being removed"
    await StatusBoard(redis).undelete(media_id)
    return None


async def _is_being_removed(resources: Resources, media_id: str) -> bool:
    found = False

    def visit(task: FoundTask) -> bool:
        nonlocal found
        found = found or (task.place is Place.STREAM and task.subject == media_id)
        return not found

    await each_task(resources.redis.get(), DELETE_QUEUE, visit)
    return found
