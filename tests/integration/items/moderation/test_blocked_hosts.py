"""Blocked hosts: which names a block covers, and when replicas know of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import ObjectStore
from avion_media.common.errors import Dependency
from avion_media.common.ids import parse_remote_id
from avion_media.items.hosts import HostIndex
from avion_media.items.moderation import BlockedHosts, Changes, HostNotBlocked, InvalidHost, parse_host
from guarded_fetch import parse_remote_url
from tests.crash.stage import MemoryStore, Steps, Stored, slot_of

NewReplica = Callable[[], BlockedHosts]


@pytest.fixture
def objects() -> dict[str, Stored]:
    """The bucket."""
    return {}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened


@pytest.fixture
def new_replica(redis: Redis, objects: dict[str, Stored]) -> NewReplica:
    store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore(objects, Steps())))
    return lambda: BlockedHosts(store, Changes(redis), ["*.denied.example"])


@pytest.mark.parametrize(
    ("blocked", "url", "covered"),
    [
        ("bad.example", "https://bad.example/a.jpg", True),
        ("bad.example", "https://BAD.Example.:443/a.jpg", True),
        ("bad.example", "http://bad.example:8080/a.jpg", True),
        ("bad.example", "https://media.cdn.bad.example/a.jpg", True),
        ("bad.example", "https://notbad.example/a.jpg", False),
        ("bad.example", "https://example/bad.example", False),
        ("bad.example", "https://bad.example.good.example/a.jpg", False),
        ("=bad.example", "https://bad.example/a.jpg", True),
        ("=bad.example", "https://media.bad.example/a.jpg", False),
        ("bücher.example", "https://xn--bcher-kva.example/a.jpg", True),
        ("xn--bcher-kva.example", "https://BÜCHER。example/a.jpg", True),
        ("192.0.2.7", "https://192.0.2.7/a.jpg", True),
        ("192.0.2.7", "https://1.192.0.2.7.example/a.jpg", False),
        ("2001:db8::7", "https://[2001:DB8:0::7]:8443/a.jpg", True),
    ],
)
async def test_what_a_block_covers(new_replica: NewReplica, blocked: str, url: str, covered: bool) -> None:
    hosts = new_replica()
    await hosts.block(parse_host(blocked))
    assert hosts.is_blocked(parse_remote_url(url).host) is covered
    assert parse_host(blocked).covers(parse_remote_url(url).host) is covered


@pytest.mark.parametrize(
    "text", ["", "a.example:443", "https://a.example/x", "a.example/x", "*.example", "a b.example", "127.1", "::g"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(InvalidHost, match="must be a host name or an address, without scheme, port, path or wildcard"):
        parse_host(text)


def test_a_single_label_is_no_host() -> None:
    with pytest.raises(InvalidHost, match="single label"):
        parse_host("localhost")


async def test_another_replica_knows_before_its_next_fetch(new_replica: NewReplica, redis: Redis) -> None:
    one, other = new_replica(), new_replica()
    await other.refresh()
    await one.block(parse_host("bad.example"))
    await other.refresh()
    assert other.is_blocked("bad.example")
    await one.unblock("bad.example")
    await redis.execute("FLUSHALL")
    await other.refresh()
    assert not other.is_blocked("bad.example")
    await one.block(parse_host("bad.example"))
    await redis.execute("FLUSHALL")
    new = new_replica()
    for each in (other, new):
        await each.refresh()
        assert each.is_blocked("bad.example")


async def test_a_block_replaces_the_scope(new_replica: NewReplica, objects: dict[str, Stored]) -> None:
    hosts = new_replica()
    for name in ("bad.example", "=bad.example"):
        await hosts.block(parse_host(name))
        assert list(objects) == [f"moderation/hosts/{name}"]
    with pytest.raises(HostNotBlocked):
        await hosts.unblock("denied.example")
    await hosts.unblock("bad.example")
    assert not objects


async def test_a_record_that_cannot_be_read_is_in_force(new_replica: NewReplica, objects: dict[str, Stored]) -> None:
    hosts = new_replica()
    await hosts.block(parse_host("bad.example"))
    for key, stored in objects.items():
        objects[key] = Stored(b'{"v": 99}', stored.content_type, {}, stored.written)
    fresh = new_replica()
    listed, _ = await fresh.list()
    assert fresh.is_blocked("bad.example")
    assert [(each.host, each.by) for each in listed] == [("bad.example", ""), ("denied.example", "settings")]


async def test_the_index_of_hosts(objects: dict[str, Stored]) -> None:
    store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore(objects, Steps())))
    index = HostIndex(store)
    ids = [f"{number:064x}" for number in range(5)]
    for number, each in enumerate(ids):
        host = "a.example" if number < 3 else "b.a.example"
        objects[f"host/{host}/{each}.{100 + number}.attachment"] = Stored(b"", "", {}, datetime.now(UTC))
    assert [host async for host in index.hosts(parse_host("a.example").covers)] == ["a.example", "b.a.example"]
    assert [host async for host in index.hosts(parse_host("=a.example").covers)] == ["a.example"]
    usage = await index.usage("a.example")
    assert (usage.count, usage.size_bytes) == (3, 303)
    found = [[str(each.media_id) for each in page] async for page in index.copies("a.example", page_size=2)]
    assert found == [ids[:2], ids[2:3]]
    behind = index.copies("a.example", parse_remote_id(ids[0]), page_size=2)
    assert [[str(each.media_id) for each in page] async for page in behind] == [ids[1:3]]


async def test_a_host_that_the_settings_block_too_is_listed_twice(
    new_replica: NewReplica, objects: dict[str, Stored]
) -> None:
    hosts = new_replica()
    await hosts.block(replace(parse_host("denied.example"), note="by hand", by="alice"))
    assert [(each.host, each.by) for each in (await hosts.list())[0]] == [
        ("denied.example", "alice"),
        ("denied.example", "settings"),
    ]
    for key in [each for each in objects if each.endswith("/denied.example")]:  # unblocked elsewhere, just now
        del objects[key]
    assert [(each.host, each.by) for each in (await hosts.list())[0]] == [("denied.example", "settings")]
