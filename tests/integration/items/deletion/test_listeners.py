"""A few replicas listen on ``drop_deleted`` and read it; another one begins before one that drains stops."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
import redis as redis_py
import trio

from avion_media.backends.store import ObjectStore
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.tasks import DROP_DELETED
from avion_media.config import Config
from avion_media.items.deletion import LISTENERS, NOTICES_GROUP
from avion_media.items.deletion.notices import HEARD
from avion_media.items.state.status_store import deletion_key
from avion_media.nodes import events as node
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Runtime
from supervisors import Supervisor
from tests.crash.stage import MemoryStore, Steps

Client = Any  # redis-py's types cover options that no test here uses


class Fleet:
    """Replicas with the role `events`."""

    def __init__(self, client: Client, replicas: list[Runtime], stops: list[trio.CancelScope]) -> None:
        self.client = client
        self.replicas = replicas
        self.stops = stops

    async def listeners_are(self, count: int) -> None:
        with trio.fail_after(20):
            while self.client.pubsub_numsub(DROP_DELETED)[0][1] != count:
                await trio.lowlevel.checkpoint()

    async def publish_until_handled(self) -> None:
        media_id = str(new_media_id(JPEG, 1_700_000_000_000))
        self.client.publish(DROP_DELETED, json.dumps({"media_ids": [media_id]}))
        with trio.fail_after(20):
            while not self.client.exists(deletion_key(media_id)) or self.client.xlen(HEARD):
                await trio.lowlevel.checkpoint()


@pytest.fixture
async def fleet(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(node, "_SEAT_TTL_S", 0.5)
    config = Config.model_validate({"redis": {"url": redis_url}})
    async with AsyncExitStack() as stack:
        client: Client = stack.enter_context(redis_py.Redis.from_url(redis_url))
        client.flushall()
        replicas = [Runtime(config, frozenset({"events"})) for _ in range(LISTENERS + 1)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        stops = [trio.CancelScope() for _ in replicas]

        async def run(replica: Runtime, stop: trio.CancelScope) -> None:
            replica.store.fill(cast("ObjectStore", MemoryStore({}, Steps())))
            with stop:
                async with replica.redis.opened():
                    await Supervisor("s", [node.events(replica)]).run()

        for each in zip(replicas, stops, strict=True):
            nursery.start_soon(run, *each)
        yield Fleet(client, replicas, stops)
        nursery.cancel_scope.cancel()


async def test_so_many_listen_and_read_and_each_message_is_handled(fleet: Fleet) -> None:
    await fleet.listeners_are(LISTENERS)
    await fleet.publish_until_handled()
    assert len(fleet.client.xinfo_consumers(HEARD, NOTICES_GROUP)) <= LISTENERS
    fleet.client.flushall()  # the seats too: some may hold one twice for a moment
    await fleet.publish_until_handled()


async def test_another_one_listens_before_one_that_drains_stops(fleet: Fleet) -> None:
    await fleet.listeners_are(LISTENERS)
    held = {each.decode() for each in fleet.client.scan_iter("{drop_deleted}:listener:*")}
    assert len(held) == LISTENERS
    for each in fleet.replicas[:2]:
        each.lifecycle.advance_to(Phase.LAME_DUCK)
    await fleet.listeners_are(LISTENERS + 1)
    await fleet.publish_until_handled()


async def test_another_one_listens_soon_after_one_has_died(fleet: Fleet) -> None:
    await fleet.listeners_are(LISTENERS)
    for each in fleet.stops[:2]:
        each.cancel()
    await fleet.listeners_are(LISTENERS - 1)
    await fleet.publish_until_handled()
