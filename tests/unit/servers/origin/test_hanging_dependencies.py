"""A store or a Redis that takes the connection and says nothing: the CDN hears of it before it gives up itself."""

from __future__ import annotations

from typing import Any, cast

import trio
from trio.testing import MockClock

from avion_media.common.errors import Dependency, ObjectMissing, Unavailable
from avion_media.items.deletion import JournalReplay
from avion_media.items.item import Items
from avion_media.servers.origin.app import Origin
from avion_media.servers.settings import HttpConfig
from tests.unit.servers.origin.objects import Blocks, Slot, Tokens, request
from trio_http1 import Response
from trio_telemetry import NO_TELEMETRY

PATH = "/media/" + "0" * 64


class Redis:
    """Knows no deletion, at once; or replies only after the caller's time is up, as `Redis.run` ends then."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs
        self.state = self

    async def run(self, *_: Any, within_s: float) -> list[Any]:
        if self._hangs:
            await trio.sleep(within_s)
            raise Unavailable(Dependency.REDIS, "a test")
        return [b"", 1, b"", b""]


class Store:
    """Has nothing, at once or never."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def read_part(self, key: str, *_: Any, **__: Any) -> Any:
        if self._hangs:
            await trio.sleep_forever()
        raise ObjectMissing(key)

    async def exists(self, _key: str) -> bool:
        if self._hangs:
            await trio.sleep_forever()
        return False


async def asked(*, redis_hangs: bool, store_hangs: bool) -> tuple[Response, float]:
    """The response, and after how many seconds."""
    deletions = JournalReplay(Items(Slot(Store(hangs=False)), cast("Any", Redis(hangs=redis_hangs))), cast("Any", None))
    origin = Origin(Slot(Store(hangs=store_hangs)), deletions, Blocks(), NO_TELEMETRY, HttpConfig(), dict, Tokens())
    started = trio.current_time()
    response = await origin.handle(request(PATH))
    return response, trio.current_time() - started


async def test_a_store_that_hangs_is_503_in_time(autojump_clock: MockClock) -> None:
    response, waited_s = await asked(redis_hangs=False, store_hangs=True)
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert waited_s < 10


async def test_a_redis_that_hangs_costs_a_second(autojump_clock: MockClock) -> None:
    response, waited_s = await asked(redis_hangs=True, store_hangs=False)
    assert response.status == 404
    assert waited_s < 2
