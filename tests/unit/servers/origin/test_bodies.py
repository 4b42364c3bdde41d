"""A body by windows: every byte once and in order, whatever the store does, and nothing held that is not read."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from avion_media.backends.store import ByteRange, Bytes, ObjectStore, RangeNotSatisfiable
from avion_media.common.errors import Dependency, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.servers.origin.body import RangeBody
from tests.unit.servers.origin.objects import Objects
from trio_http1 import BodyLost, Relayed, WindowMemory
from trio_s3.tests.pairs import connected

KIB = 1 << 10
MIB = 1 << 20


def filled(size: int) -> Objects:
    """One object, ``a``, of random bytes."""
    objects = Objects()
    objects.held["a"] = random.Random(size).randbytes(size)
    return objects


@asynccontextmanager
async def opened(
    objects: Objects,
    memory: WindowMemory,
    peer: str,
    key: str,
    byte_range: ByteRange | None,
    etag: str | None = None,
) -> AsyncIterator[RangeBody]:
    """The body, closed at the end of the block, with all that was sent counted."""
    sent: list[int] = []
    body = RangeBody(cast("ObjectStore", objects), memory, peer, key, sent.append)
    try:
        await body.open(byte_range, etag)
        yield body
        assert sum(sent) <= body.length_bytes
    finally:
        body.close()


async def whole(body: RangeBody, *, each_s: float = 0.0) -> bytes:
    """All windows; the client takes so long for each."""
    received = []
    async with aclosing(body.windows()) as windows:
        async for window in windows:
            assert not callable(window)
            received.append(bytes(window))
            await trio.sleep(each_s)
    return b"".join(received)


async def reset() -> None:
    raise Unavailable(Dependency.STORE, "connection reset")


async def stall() -> None:
    await trio.sleep_forever()


async def stalled_for_long() -> None:
    await trio.sleep(60)
    raise Unavailable(Dependency.STORE, "no answer")


@pytest.mark.parametrize("seed", range(60))
async def test_every_byte_comes_once_and_in_order(seed: int, autojump_clock: MockClock) -> None:
    """Random sizes, ranges, speeds and faults: two in a row at most, one of them a stall."""
    chosen = random.Random(seed)
    size = chosen.choice([1, 100, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, chosen.randrange(1, 6 * MIB)])
    objects = filled(size)
    for _ in range(12):
        objects.faults += [chosen.choice([reset, stall, None]), chosen.choice([reset, None]), None]
    first = chosen.randrange(size)
    ranges: list[tuple[ByteRange | None, slice]] = [
        (None, slice(None)),
        ((first, None), slice(first, None)),
        ((first, first + size // 3), slice(first, first + size // 3 + 1)),
        ((None, 1 + size // 2), slice(max(0, size - 1 - size // 2), None)),
    ]
    byte_range, expected = chosen.choice(ranges)
    memory = WindowMemory()

    async with opened(objects, memory, "peer", "a", byte_range) as body:
        assert body.length_bytes == len(objects.held["a"][expected])
        assert (body.content_range is None) == (byte_range is None)
        assert await whole(body, each_s=chosen.choice([0.0, 5.0])) == objects.held["a"][expected]

    assert memory.held_bytes == 0


async def test_a_thumbnail_is_one_request() -> None:
    objects = filled(40 * KIB)
    async with opened(objects, WindowMemory(), "peer", "a", None) as body:
        await whole(body)
    assert (len(objects.reads), objects.heads) == (1, 0)


async def test_a_short_suffix_is_one_request_and_a_long_one_asks_for_the_size_first() -> None:
    objects = filled(MIB)
    for last, heads in ((100, 0), (128 * KIB, 0), (128 * KIB + 1, 1)):
        objects.heads = 0
        async with opened(objects, WindowMemory(), "peer", "a", (None, last)) as body:
            assert await whole(body) == objects.held["a"][-last:]
        assert objects.heads == heads


async def test_windows_grow_for_a_fast_client_and_none_crosses_a_stripe(autojump_clock: MockClock) -> None:
    objects = filled(13 * MIB)
    async with opened(objects, WindowMemory(), "peer", "a", (100, None)) as body:
        assert await whole(body) == objects.held["a"][100:]
    spans = [(first, last) for first, last in filter(None, objects.reads) if first is not None and last is not None]
    assert [first for first, _ in spans] == [100, 100 + 128 * KIB, MIB // 2, 2 * MIB, 4 * MIB, 8 * MIB, 12 * MIB]
    assert all(first // (4 * MIB) == last // (4 * MIB) for first, last in spans[1:])

    slow = filled(2 * MIB)
    async with opened(slow, WindowMemory(), "peer", "a", None) as body:
        await whole(body, each_s=2.0)
    assert len(slow.reads) == 16


async def test_nothing_is_read_and_one_window_is_held_while_the_client_does_not_read() -> None:
    objects, memory = filled(8 * MIB), WindowMemory()
    async with opened(objects, memory, "peer", "a", None) as body, aclosing(body.windows()) as windows:
        await anext(windows)
        await wait_all_tasks_blocked()
        assert (objects.reading, memory.held_bytes) == (0, 128 * KIB)
    assert memory.held_bytes == 0


async def test_an_empty_object_has_an_empty_body() -> None:
    objects = filled(0)
    async with opened(objects, WindowMemory(), "peer", "a", None) as body:
        assert (body.length_bytes, body.info.size_bytes, await whole(body)) == (0, 0, b"")
    with pytest.raises(RangeNotSatisfiable):
        async with opened(objects, WindowMemory(), "peer", "a", (0, 0)):
            pass


async def test_three_failures_in_a_row_end_it(autojump_clock: MockClock) -> None:
    objects = filled(MIB)
    objects.faults = [reset, reset, reset]
    with pytest.raises(Unavailable):
        async with opened(objects, WindowMemory(), "peer", "a", None):
            pass
    objects.faults = [None, reset, reset, reset]
    with pytest.raises(BodyLost):
        async with opened(objects, WindowMemory(), "peer", "a", None) as body:
            await whole(body)
    assert len(objects.reads) == 7


async def test_a_store_that_stalls_is_left_after_twenty_seconds(autojump_clock: MockClock) -> None:
    objects, memory = filled(MIB), WindowMemory()
    objects.faults = [None, stall, stall, stall]
    async with opened(objects, memory, "peer", "a", None) as body, aclosing(body.windows()) as windows:
        await anext(windows)
        begun = trio.current_time()
        with pytest.raises(BodyLost):
            await anext(windows)
        assert 19 < trio.current_time() - begun < 21
    assert memory.held_bytes == 0


@pytest.mark.parametrize("change", ["replaced", "deleted"])
@pytest.mark.parametrize("windows_before", [1, 3])
async def test_an_object_that_changes_meanwhile_is_never_mixed(change: str, windows_before: int) -> None:
    objects, memory = filled(8 * MIB), WindowMemory()
    async with opened(objects, memory, "peer", "a", None) as body, aclosing(body.windows()) as windows:
        for _ in range(windows_before):
            await anext(windows)
        if change == "replaced":
            objects.etags["a"] = "two"
        else:
            del objects.held["a"]
        with pytest.raises(BodyLost):
            await anext(windows)
    assert memory.held_bytes == 0


async def test_what_the_first_window_finds_is_told_as_the_store_does() -> None:
    objects = filled(10)
    with pytest.raises(ObjectMissing):
        async with opened(objects, WindowMemory(), "peer", "b", None):
            pass
    with pytest.raises(PreconditionFailed):
        async with opened(objects, WindowMemory(), "peer", "a", None, "other"):
            pass
    with pytest.raises(RangeNotSatisfiable):
        async with opened(objects, WindowMemory(), "peer", "a", (10, None)):
            pass


# -- relayed


async def relayed(objects: Objects, *, pauses_s: float = 0.0) -> bytes:
    """What a client receives that pauses once, after 3 MiB."""
    objects.can_relay = True
    received = bytearray()
    async with connected() as (stream, client):

        async def send() -> None:
            async with opened(objects, WindowMemory(), "peer", "a", None) as body, aclosing(body.windows()) as windows:
                async for window in windows:
                    await (window(stream, 10.0) if callable(window) else stream.send_all(window))
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while data := await client.receive_some():
                has_begun = len(received) >= 3 * MIB
                received += data
                if not has_begun and len(received) >= 3 * MIB:
                    await trio.sleep(pauses_s)
    return bytes(received)


async def test_a_fast_client_gets_the_rest_in_one_response(mock_clock: MockClock) -> None:
    objects = filled(40 * MIB)
    assert await relayed(objects) == objects.held["a"]
    assert objects.reads[-1] == (2 * MIB, 40 * MIB - 1)


async def test_a_client_that_stops_reading_gets_windows_again(autojump_clock: MockClock) -> None:
    objects = filled(40 * MIB)
    assert await relayed(objects, pauses_s=8.0) == objects.held["a"]
    assert (2 * MIB, 40 * MIB - 1) in objects.reads[:-1]


@pytest.mark.parametrize("fault", [reset, stalled_for_long])
@pytest.mark.parametrize("where", ["at once", "in the middle"])
async def test_a_relayed_body_goes_on_behind_a_fault(
    autojump_clock: MockClock, fault: Callable[[], Awaitable[None]], where: str
) -> None:
    objects = filled(40 * MIB)
    objects.faults = [None, None, None, *([fault] if where == "at once" else [None, fault])]
    assert await relayed(objects) == objects.held["a"]
    assert not objects.faults


@asynccontextmanager
async def to_be_relayed(
    objects: Objects, memory: WindowMemory
) -> AsyncIterator[tuple[AsyncGenerator[Bytes | Relayed, None], Relayed]]:
    """The windows of a body, up to the one that relays the rest."""
    objects.can_relay = True
    async with opened(objects, memory, "peer", "a", None) as body, aclosing(body.windows()) as windows:
        while not callable(window := await anext(windows)):
            pass
        yield windows, window


async def test_a_relayed_object_that_is_replaced_is_never_mixed(mock_clock: MockClock) -> None:
    objects, memory = filled(40 * MIB), WindowMemory()
    async with connected() as (stream, _), to_be_relayed(objects, memory) as (windows, relay):
        objects.etags["a"] = "two"
        assert await relay(stream, 1.0) == 0
        with pytest.raises(BodyLost):
            await anext(windows)
    assert memory.held_bytes == 0


async def test_without_a_descriptor_there_are_windows(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_flags: int) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    objects = filled(12 * MIB)
    monkeypatch.setattr(os, "pipe2", refuse)
    assert await relayed(objects) == objects.held["a"]
    assert objects.reads[-1] == (8 * MIB, 12 * MIB - 1)


async def test_a_relay_to_a_client_that_never_reads_ends(autojump_clock: MockClock) -> None:
    objects, memory = filled(40 * MIB), WindowMemory()
    async with connected() as (stream, _), to_be_relayed(objects, memory) as (_, relay):
        with pytest.raises(trio.BrokenResourceError):
            await relay(stream, 1.0)
    assert memory.held_bytes == 0


# -- memory


async def test_a_later_window_waits_thirty_seconds_for_memory_and_holds_none_meanwhile(
    autojump_clock: MockClock,
) -> None:
    objects, memory = filled(MIB), WindowMemory(2 * MIB)
    others = 0

    async def take_all() -> None:
        nonlocal others
        while True:
            taken = await memory.take("peer", 64 * KIB)
            others += taken

    async with trio.open_nursery() as nursery:
        async with opened(objects, memory, "peer", "a", None) as body, aclosing(body.windows()) as windows:
            await anext(windows)
            for _ in range(4):  # together they wait for all that the window gives back
                nursery.start_soon(take_all)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
            with pytest.raises(BodyLost):
                await anext(windows)
            assert 29 < trio.current_time() - begun < 31
            assert memory.held_bytes == others == MIB
        nursery.cancel_scope.cancel()
