"""The origin's bodies on a real store: they go on after a hiccup of it, and are never mixed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import trio

from avion_media.backends.store import ObjectStore, open_store
from avion_media.servers.origin.body import RangeBody
from tests.conftest import S3Bucket
from tests.services.faulty_gateway import FaultyGateway, faulty_gateway
from trio_http1 import BodyLost, WindowMemory
from trio_s3.tests.pairs import connected

CONTENT = os.urandom(6 << 20)


@pytest.fixture
async def gateway(s3: S3Bucket) -> AsyncIterator[FaultyGateway]:
    s3.client.put_object(Bucket=s3.bucket, Key="a", Body=CONTENT)
    async with faulty_gateway(s3.address.endpoint_url) as running:
        yield running


@pytest.fixture
async def behind(s3: S3Bucket, gateway: FaultyGateway) -> AsyncIterator[ObjectStore]:
    """A store that is reached through the gateway."""
    async with open_store(s3.config(endpoint_url=gateway.url, timeout=1.0)) as store:
        await store.state.wait_available()
        yield store


def break_off(gateway: FaultyGateway) -> None:
    gateway.break_after = 20_000


def stall(gateway: FaultyGateway) -> None:
    gateway.stall_after = 20_000


def refuse(gateway: FaultyGateway) -> None:
    gateway.refusals = 4  # more than one attempt of ours asks for


async def receive(client: trio.SocketStream, received: bytearray) -> None:
    async for data in client:
        received += data


@pytest.mark.parametrize("fault", [break_off, stall, refuse])
@pytest.mark.parametrize("window", [0, 1, 3])
async def test_a_body_goes_on_after_a_hiccup_of_the_store(
    behind: ObjectStore, gateway: FaultyGateway, fault: Callable[[FaultyGateway], None], window: int
) -> None:
    async def recover() -> None:
        await gateway.held.wait()
        gateway.break_after = gateway.stall_after = None

    received, sent = bytearray(), list[int]()
    with trio.fail_after(60):
        async with trio.open_nursery() as recovering:
            recovering.start_soon(recover)
            if window == 0:
                fault(gateway)
            body = RangeBody(behind, WindowMemory(), "peer", "a", sent.append)
            await body.open(None)
            async with (
                connected() as (stream, client),
                trio.open_nursery() as receiving,
                aclosing(body.windows()) as windows,
            ):
                receiving.start_soon(receive, client, received)
                number = 0
                async for each in windows:
                    await (each(stream, 10.0) if callable(each) else stream.send_all(each))
                    number += 1
                    if number == window:
                        fault(gateway)
                await stream.send_eof()
            recovering.cancel_scope.cancel()
    assert received == CONTENT
    assert sum(sent) == len(CONTENT)
    assert gateway.held.is_set() or fault is refuse
    assert gateway.refusals == 0


async def test_a_body_that_is_replaced_meanwhile_is_lost(s3: S3Bucket, behind: ObjectStore) -> None:
    body = RangeBody(behind, WindowMemory(), "peer", "a", lambda _: None)
    await body.open(None)
    async with aclosing(body.windows()) as windows:
        await anext(windows)
        s3.client.put_object(Bucket=s3.bucket, Key="a", Body=CONTENT[::-1])
        with pytest.raises(BodyLost):
            await anext(windows)
