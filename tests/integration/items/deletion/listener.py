"""One replica that listens on ``drop_deleted``, as a process: it prints which media the next notice marked."""

from __future__ import annotations

import sys
from functools import partial

import trio

from avion_media.backends.redis import Redis, open_redis
from avion_media.items.deletion import DeletionRecords, NoticeChannel, NoticeStream

HOUR_S = 3600.0


async def read(redis: Redis) -> None:
    stream, records = NoticeStream(redis), DeletionRecords(redis)
    while True:
        for notice in await stream.take("reader", block_s=5.0):
            marks = await records.mark(notice.media_ids, delay_s=HOUR_S, lower_bound_ms=notice.lower_bound_ms)
            await stream.done(notice)
            print(*[mark.media_id for mark in marks], flush=True)


async def main(url: str) -> None:
    async with open_redis(url) as redis, trio.open_nursery() as nursery:
        channel = NoticeChannel(redis)
        nursery.start_soon(partial(channel.listen, gap=lambda _seconds: None, lost=lambda: None))
        nursery.start_soon(channel.write)
        nursery.start_soon(read, redis)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
