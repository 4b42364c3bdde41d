"""The load: a fixed number of RequestMediaUpload calls over several connections, by grpcio's asyncio client.

usage: client.py <address> <connections> <calls in flight on each> <calls>

Fails on the first answer that is not a URL.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import grpc

from avion_media.wire.avion import media_pb2 as wire

_REQUEST = wire.RequestMediaUploadRequest(filename="IMG_1042.jpg", content_type="image/jpeg", size=3_245_871)
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)  # channels to one address share theirs otherwise


async def main(address: str, connections: int, in_flight: int, calls: int) -> None:
    """Make ``calls`` calls."""
    channels = [grpc.aio.insecure_channel(address, options=_OWN_CONNECTION) for _ in range(connections)]
    numbers = iter(range(calls))  # shared: whoever is free takes the next
    try:
        async with asyncio.TaskGroup() as tasks:
            for channel in channels:
                for _ in range(in_flight):
                    tasks.create_task(_call(channel, numbers))
    finally:
        for channel in channels:
            await channel.close()


async def _call(channel: grpc.aio.Channel, numbers: Iterator[int]) -> None:
    method = channel.unary_unary(
        "/avion.MediaService/RequestMediaUpload",
        request_serializer=wire.RequestMediaUploadRequest.SerializeToString,
        response_deserializer=wire.RequestMediaUploadResponse.FromString,
    )
    for _ in numbers:
        response = await method(_REQUEST, timeout=30)
        if "X-Amz-Signature=" not in response.upload_url:
            raise SystemExit(f"not a presigned URL: {response.upload_url!r}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
