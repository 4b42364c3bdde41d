"""Clients that take their time, that leave, that come in numbers: each costs a bounded time, and others nothing."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from ipaddress import ip_network

import pytest
import trio

from trio_http1 import HttpLimits

from .serving import GET, Client, Kind, attacked

HANG = GET.replace(b"/ ", b"/hang ", 1)
ENDLESS = GET.replace(b"/ ", b"/endless ", 1)
LATE = b"HTTP/1.1 408"
POST = b"POST /body HTTP/1.1\r\nHost: origin\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("beginning", [b"G", b"GET / HTTP/1.1\r\n", GET[:-1], GET[:-4], GET + b"GET /"])
async def test_a_head_that_does_not_end_is_waited_for_a_while(beginning: bytes) -> None:
    async with attacked(HttpLimits(head_timeout_s=0.2)) as world, world.client() as client:
        await client.send(beginning)
        assert LATE in await client.read_to_end()
        await world.until_connections(1)


async def test_dripping_a_head_prolongs_nothing() -> None:
    async with attacked(HttpLimits(head_timeout_s=0.3)) as world, world.client() as client:
        await client.send(b"GET / HTTP/1.1\r\n")
        assert LATE in await _read_while_dripping(client, b"X: 1\r\n")


async def test_empty_lines_keep_no_connection_open() -> None:
    limits = HttpLimits(keep_alive_s=0.3, head_timeout_s=0.3)
    async with attacked(limits, with_good=False) as world, world.client() as client:
        await _read_while_dripping(client, b"\r\n")


async def _read_while_dripping(client: Client, drop: bytes) -> bytes:
    """What comes while the same bytes are sent again and again, until the server closes."""
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await client.send(drop)
                await trio.sleep(0.01)

        nursery.start_soon(drip)
        answer = await client.read_to_end()
        nursery.cancel_scope.cancel()
    return answer


async def test_a_body_that_does_not_come_is_waited_for_a_while(kind: Kind) -> None:
    async with attacked(HttpLimits(body_timeout_s=0.2), kind) as world, world.client() as client:
        await client.send(POST + b"x" * 99)
        assert LATE in await client.read_to_end()
        await world.until_connections(1)


async def test_a_connection_without_requests_is_ended() -> None:
    async with attacked(HttpLimits(keep_alive_s=0.2), with_good=False) as world:
        async with world.client() as client:
            assert await client.read_to_end() == b""
        await world.until_connections(0)


async def test_a_connection_is_ended_some_time_after_its_last_request() -> None:
    async with attacked(HttpLimits(keep_alive_s=0.5), with_good=False) as world, world.client() as client:
        await client.send(GET)
        assert b"served" in await client.read_to_end()


async def test_a_client_that_does_not_read_is_dropped_and_its_response_ended(kind: Kind) -> None:
    async with attacked(HttpLimits(write_timeout_s=0.3), kind) as world, world.client() as client:
        await client.send(ENDLESS)
        await world.app.until_cancelled(1)
        await world.until_connections(1)


async def test_a_client_that_reads_on_is_not_dropped(kind: Kind) -> None:
    async with attacked(HttpLimits(write_timeout_s=0.5, body_timeout_s=0.3), kind) as world:
        async with world.client() as client:
            await client.send(ENDLESS)
            ends_at = trio.current_time() + 1.0
            while trio.current_time() < ends_at:
                assert await client.stream.receive_some(65_536)
        await world.app.until_cancelled(1)


@pytest.mark.parametrize("request_bytes", [HANG, ENDLESS, ENDLESS + GET])
async def test_what_works_for_a_client_ends_when_it_leaves(kind: Kind, request_bytes: bytes) -> None:
    async with attacked(HttpLimits(half_closed_s=0.1), kind) as world:
        async with world.client() as client:
            await client.send(request_bytes)
            await world.app.until_entered(1)
        await world.app.until_cancelled(1)
        await world.until_connections(1)


async def test_a_client_that_leaves_while_it_is_answered_is_no_defect(kind: Kind) -> None:
    async with attacked(kind=kind) as world:
        for _ in range(30):
            async with world.client() as client:
                await client.send(GET * 20)
                await client.stream.send_eof()
                await client.read_to_end()


async def test_a_reset_ends_it_too(kind: Kind) -> None:
    async with attacked(kind=kind) as world:
        async with world.client() as client:
            await client.send(HANG)
            await world.app.until_entered(1)
            client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await world.app.until_cancelled(1)
        await world.until_connections(1)


async def test_connections_beyond_the_limit_are_closed() -> None:
    async with attacked(HttpLimits(max_connections_per_peer=3)) as world:
        async with world.client() as first, world.client() as second:
            await first.get()
            await second.get()
            async with world.client() as third:
                assert await third.read_to_end() == b""
            await first.get()
        await world.until_connections(1)
        async with world.client() as client:
            await client.get()


async def test_the_connections_of_a_proxy_are_those_of_many_peers() -> None:
    limits = HttpLimits(max_connections_per_peer=2, proxies=(ip_network("127.0.0.0/8"),))
    async with attacked(limits) as world, AsyncExitStack() as held:
        for _ in range(4):
            await (await held.enter_async_context(world.client())).get()


async def test_who_holds_connections_without_requests_makes_room_for_newcomers() -> None:
    async with attacked(HttpLimits(max_connections=20)) as world, trio.open_nursery() as nursery:

        async def hold(local_address: str) -> None:
            async with world.client(local_address) as client:
                await client.read_to_end()

        for number in range(17):
            nursery.start_soon(hold, f"127.0.1.{number}")
        while world.server.connections < 18:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        for number in range(10):
            async with world.client(f"127.0.2.{number}") as client:
                await client.get()
        nursery.cancel_scope.cancel()
