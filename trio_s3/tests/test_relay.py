"""Bytes that pass from one socket to another: all of them, in order, at the client's pace."""

from __future__ import annotations

import fcntl
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from trio_s3 import Relay

from .pairs import connected

MIB = 1 << 20
BYTES = random.Random(0).randbytes(5 * MIB)


@dataclass
class World:
    """A source, and a client that reads from ``reader``."""

    source: trio.SocketStream
    sender: trio.SocketStream
    relay: Relay
    reader: trio.SocketStream

    async def pass_all(self) -> None:
        """Everything that comes from the source, unless the client falls behind."""
        while not self.relay.is_behind:
            await trio.lowlevel.wait_readable(self.source.socket)
            with suppress(BlockingIOError):
                if not await self.relay.pass_on(self.source.socket, 10 * MIB):
                    return


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with connected() as (source, sender), connected() as (client, reader):
        with closing(Relay(client)) as relay:
            yield World(source, sender, relay, reader)


async def read(stream: trio.SocketStream, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        received += await stream.receive_some(count - len(received))
    return bytes(received)


async def test_every_byte_passes_in_order() -> None:
    received: list[bytes] = []
    with trio.fail_after(20):
        async with world() as at:

            async def client() -> None:
                received.append(await read(at.reader, 70_000 + len(BYTES)))

            async def send() -> None:
                await at.sender.send_all(BYTES)
                await at.sender.send_eof()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(client)
                await at.relay.put(BYTES[:70_000])  # more than a pipe takes by default
                nursery.start_soon(send)
                await at.pass_all()
                assert await at.relay.finish(1.0)
            assert received == [BYTES[:70_000] + BYTES]
            assert at.relay.sent == 70_000 + len(BYTES)


async def test_a_client_that_pauses_falls_behind_and_still_gets_the_rest(autojump_clock: MockClock) -> None:
    async with world() as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.sender.send_all, BYTES)
        await at.pass_all()
        assert at.relay.is_behind
        passed = at.relay.sent
        finished: list[bool] = []

        async def finish() -> None:
            finished.append(await at.relay.finish(10.0))

        async with trio.open_nursery() as finishing:
            finishing.start_soon(finish)
            await trio.sleep(5)
            received = await read(at.reader, passed + 1)
            while not finished:
                received += await at.reader.receive_some()
        received += await read(at.reader, at.relay.sent - len(received))
        assert finished == [True]
        assert passed < at.relay.sent < len(BYTES)
        assert received == BYTES[: at.relay.sent]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_client_that_never_reads_or_leaves_is_given_up(autojump_clock: MockClock, leaves: bool) -> None:
    async with world() as at, trio.open_nursery() as nursery:
        nursery.start_soon(at.sender.send_all, BYTES)
        await at.pass_all()
        if leaves:
            await at.reader.aclose()
        held = MIB / (64 << 10)
        begun = trio.current_time()
        assert not await at.relay.finish(2.0)
        assert at.relay.is_behind
        assert trio.current_time() - begun <= 2.0 * (1 + held)
        nursery.cancel_scope.cancel()


async def test_what_breaks_the_source_is_told() -> None:
    async with world() as at:
        at.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset at close
        await at.sender.aclose()
        with pytest.raises(ConnectionResetError):
            await at.pass_all()
        assert await at.relay.finish(1.0)


async def test_without_large_pipes_it_passes_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    async with world() as at, trio.open_nursery() as nursery:

        async def client() -> None:
            assert await read(at.reader, 3 * MIB) == BYTES[: 3 * MIB]

        nursery.start_soon(client)
        await at.relay.put(BYTES[: 3 * MIB])
