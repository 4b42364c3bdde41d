"""One listener of ``drop_deleted`` as a process: it marks what it receives, and prints which media it marked."""

from __future__ import annotations

import sys

import trio

from avion_media.backends.redis import open_redis
from avion_media.items.deletion import DeletionRecords, Notice, NoticeChannel

HOUR_S = 3600.0


async def main(url: str) -> None:
    async with open_redis(url) as redis:

        async def handle(notice: Notice) -> None:
            records = DeletionRecords(redis)
            marks = await records.mark(notice.media_ids, delay_s=HOUR_S, lower_bound_ms=notice.lower_bound_ms)
            print(*[mark.media_id for mark in marks], flush=True)

        await NoticeChannel(redis).listen(handle, gap=lambda _seconds: None, lost=lambda: None)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
