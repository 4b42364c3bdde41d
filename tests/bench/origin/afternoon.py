"""What one would write in an afternoon: Starlette and boto3 on uvicorn. No tombstones, ranges, conditions or telemetry.

usage: python -m tests.bench.origin.afternoon PORT BUCKET   (store and credentials as boto3 finds them)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import uvicorn
from botocore.config import Config
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

_CHUNK_BYTES = 1 << 20


def application(bucket: str) -> Starlette:
    """``/{key}`` from the bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["AVION_MEDIA_S3__ENDPOINT_URL"],
        region_name="us-east-1",
        config=Config(max_pool_connections=40, s3={"addressing_style": "path"}),
    )

    def chunks(body: Any) -> Iterator[bytes]:
        while chunk := body.read(_CHUNK_BYTES):
            yield chunk

    async def media(request: Request) -> StreamingResponse:
        found = await run_in_threadpool(client.get_object, Bucket=bucket, Key=request.path_params["key"])
        headers = {"Content-Length": str(found["ContentLength"]), "ETag": found["ETag"]}
        return StreamingResponse(chunks(found["Body"]), media_type=found["ContentType"], headers=headers)

    return Starlette(routes=[Route("/{key:path}", media)])


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
