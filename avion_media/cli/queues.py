"""``queues``: what waits, what is stuck, how much was given up."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import click

from avion_media.cli.output import json_option, load_config, print_json, print_table
from avion_media.cli.resources import directly
from avion_media.config import Config
from avion_media.domain.tasks import QUEUES
from avion_media.queue import QueueStats, TaskQueue
from avion_media.redis import open_redis


@click.command("queues")
@json_option
def queues_command(as_json: bool) -> None:
    """Depth, lag, pending and oldest age of each queue."""
    stats = directly(partial(_stats, load_config()))
    if as_json:
        print_json({name: asdict(each) for name, each in stats.items()})
        return
    print_table(
        ["queue", "depth", "lag", "pending", "oldest", "delayed", "dead letters", "consumers"],
        [
            (
                name,
                each.depth,
                each.lag,
                each.pending,
                f"{each.oldest_age_s:.0f}s",
                each.delayed,
                each.dead_letters,
                each.consumers,
            )
            for name, each in stats.items()
        ],
    )


async def _stats(config: Config) -> dict[str, QueueStats]:
    async with open_redis(config.redis.url, timeout_s=config.redis.timeout) as redis:
        return {name: await TaskQueue(redis, name).stats() for name in QUEUES}
