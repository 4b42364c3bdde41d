"""The load, by grpcio's asyncio client: a fixed number of calls, or of connections.

usage: client.py upload|echo <address> <connections> <calls in flight on each> <calls>
       client.py connect <address> <connections at once> <connections>

Fails on the first wrong answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator

import grpc

from avion_media.common.wire.avion import media_pb2 as media
from tests.interop import methods
from tests.interop.wire import echo_pb2

_UPLOAD = media.RequestMediaUploadRequest(filename="IMG_1042.jpg", content_type="image/jpeg", size=3_245_871)
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)  # channels to one address share theirs otherwise
_TIMEOUT_S = 30

Call = Callable[[], Awaitable[None]]


def _open(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=_OWN_CONNECTION)


async def call_on(channels: list[grpc.aio.Channel], what: str, in_flight: int, count: int) -> None:
    """Make ``count`` calls on these connections, and close them."""
    calls = {"upload": _upload, "echo": _echo}[what]
    try:
        await _share(count, [calls(channel) for channel in channels for _ in range(in_flight)])
    finally:
        for channel in channels:
            await channel.close()


async def connect(address: str, at_once: int, count: int) -> None:
    """Set up ``count`` connections, to both sides' SETTINGS, and close them."""

    async def one() -> None:
        async with _open(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), _TIMEOUT_S)

    await _share(count, [one] * at_once)


async def _share(count: int, calls: list[Call]) -> None:
    numbers = iter(range(count))  # all tasks share it: each takes the next number
    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(_repeat(call, numbers))


async def _repeat(call: Call, numbers: Iterator[int]) -> None:
    for _ in numbers:
        await call()


def _upload(channel: grpc.aio.Channel) -> Call:
    method = channel.unary_unary(
        "/avion.MediaService/RequestMediaUpload",
        request_serializer=media.RequestMediaUploadRequest.SerializeToString,
        response_deserializer=media.RequestMediaUploadResponse.FromString,
    )

    async def call() -> None:
        response = await method(_UPLOAD, timeout=_TIMEOUT_S)
        if "X-Amz-Signature=" not in response.upload_url:
            raise SystemExit(f"not a presigned URL: {response.upload_url!r}")

    return call


def _echo(channel: grpc.aio.Channel) -> Call:
    method = methods.say(channel)

    async def call() -> None:
        response = await method(echo_pb2.EchoRequest(text="hello"), timeout=_TIMEOUT_S)
        if response.text != "hello":
            raise SystemExit(f"another text: {response.text!r}")

    return call


async def main(what: str, address: str, connections: int, *numbers: int) -> None:
    """Do what the arguments say."""
    if what == "connect":
        await connect(address, connections, *numbers)
    else:
        await call_on([_open(address) for _ in range(connections)], what, *numbers)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
