"""A gateway between browsers and avion-media: HTTP and JSON for pages, gRPC with TLS and a token for the service.

README.md says how to run it. The routes are those of all gateways in this folder (../README.md).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from avion.media_pb2 import (
    AbortMediaUploadRequest,
    CompleteMediaUploadRequest,
    GetCapabilitiesRequest,
    GetMediaStatusRequest,
    MediaStatus,
    RequestMediaUploadRequest,
    SignUploadPartsRequest,
)
from avion.media_pb2_grpc import MediaServiceStub
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

ORIGIN = os.environ.get("ORIGIN_URL", "http://127.0.0.1:8080")
"""Where browsers get media: the CDN, or the origin itself."""
PAGE = os.environ.get("PAGE", "../web/dist")
CALL_S = 5.0
WATCH_S = 600.0  # then the browser's EventSource connects again

# The library repeats a call that ends with UNAVAILABLE, within the call's deadline and after the pause that the service
# asks for. All methods of the service may be repeated.
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "avion.MediaService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def open_channel() -> grpc.aio.Channel:
    """A channel that trusts one authority and sends a bearer token with every call."""
    tls = grpc.ssl_channel_credentials(Path(os.environ["AVION_MEDIA_CLIENT__TLS_CA"]).read_bytes())
    token = Path(os.environ["AVION_MEDIA_CLIENT__TOKEN_FILE"]).read_text().strip()
    return grpc.aio.secure_channel(
        os.environ["AVION_MEDIA_CLIENT__ADDRESS"],
        grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(token)),
        options=[("grpc.service_config", json.dumps(RETRIES))],
    )


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with open_channel() as channel:
        app.state.media = MediaServiceStub(channel)
        yield


def media_of(request: Request) -> Any:
    return request.app.state.media


def ids_of(request: Request) -> dict[str, str]:
    return {"media_id": request.path_params["key"], "upload_id": request.query_params.get("uploadId", "")}


def owner_of(request: Request) -> str:
    """Who uploads. Put your own session here: a user who is not logged in must not get here."""
    return request.headers.get("x-user", "alice")


async def begin(request: Request) -> Response:
    """createMultipartUpload for a large file, getUploadParameters for a small one."""
    try:
        file = await request.json()
        upload = RequestMediaUploadRequest(
            filename=file["filename"], content_type=file["type"], size=file["size"], owner=owner_of(request)
        )
    except (ValueError, TypeError, KeyError):
        return JSONResponse({"error": "expected a JSON object with filename, type and size"}, 400)
    limits = await media_of(request).GetCapabilities(GetCapabilitiesRequest(), timeout=CALL_S)
    upload.multipart = limits.multipart and upload.size > limits.multipart_threshold
    granted = await media_of(request).RequestMediaUpload(upload, timeout=CALL_S)
    if granted.upload_id:
        return JSONResponse({"key": granted.media_id, "uploadId": granted.upload_id, "partSize": granted.part_size})
    put = {"method": "PUT", "url": granted.upload_url, "headers": dict(granted.upload_headers)}
    return JSONResponse({"key": granted.media_id, **put})


async def list_parts(request: Request) -> Response:
    """listParts: what the store has."""
    signed = await sign(request)
    return JSONResponse(
        [{"PartNumber": each.number, "Size": each.size, "ETag": each.etag} for each in signed.parts if each.stored]
    )


async def sign_part(request: Request) -> Response:
    """signPart. ``stored`` is true if the store has this part already, and only its response was lost."""
    try:
        signed = await sign(request, int(request.path_params["number"]))
    except ValueError:  # also of a number that is too large for the message
        return JSONResponse({"error": "expected the number of a part"}, 400)
    (part,) = signed.parts
    return JSONResponse({"url": part.url, "headers": dict(part.headers), "stored": part.stored, "etag": part.etag})


async def sign(request: Request, *numbers: int) -> Any:
    return await media_of(request).SignUploadParts(
        SignUploadPartsRequest(**ids_of(request), numbers=numbers), timeout=CALL_S
    )


async def complete(request: Request) -> Response:
    """completeMultipartUpload, and what follows a single PUT."""
    ids = ids_of(request)
    await media_of(request).CompleteMediaUpload(CompleteMediaUploadRequest(**ids), timeout=CALL_S)
    return JSONResponse({"location": f"{ORIGIN}/media/{ids['media_id']}"})


async def abort(request: Request) -> Response:
    """abortMultipartUpload."""
    await media_of(request).AbortMediaUpload(AbortMediaUploadRequest(**ids_of(request)), timeout=CALL_S)
    return Response(status_code=204)


async def watch(request: Request) -> Response:
    """The states of a media item as server-sent events. The last one is final."""
    call = media_of(request).WatchMediaStatus(
        GetMediaStatusRequest(media_id=request.path_params["key"]), timeout=WATCH_S
    )
    first = await call.read()  # an error of the call is the response's status

    async def stream() -> AsyncIterator[str]:
        status = first
        try:
            while status is not grpc.aio.EOF:
                yield f"data: {json.dumps(describe(status))}\n\n"
                status = await call.read()
        except grpc.aio.AioRpcError:
            return  # the browser connects again
        finally:
            call.cancel()

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def reasons(request: Request) -> Response:
    """For each reason of a failure, a sentence for the person who uploaded the file."""
    service = await media_of(request).GetCapabilities(GetCapabilitiesRequest(), timeout=CALL_S)
    return JSONResponse({each.code: each.sentence for each in service.reasons})


def describe(status: MediaStatus) -> dict[str, Any]:
    return {
        "state": MediaStatus.State.Name(status.state),
        "reason": status.reason,
        "retryable": status.retryable,
        "width": status.width,
        "height": status.height,
        "thumbnails": {size: ORIGIN + path for size, path in status.thumbnails.items()},
    }


async def refuse(request: Request, error: Exception) -> Response:
    """An error of the service as one of HTTP: reasons for programs, a sentence for people, Retry-After."""
    assert isinstance(error, grpc.aio.AioRpcError)
    status = HTTP_STATUS.get(error.code(), 502)
    body: dict[str, Any] = {"error": error.details() if status != 502 else "the media service refused the call"}
    headers = {}
    for detail in getattr(rpc_status.from_call(error), "details", ()):
        fields, info, retry = BadRequest(), ErrorInfo(), RetryInfo()
        if detail.Unpack(fields):
            body["fields"] = {each.field: each.reason for each in fields.field_violations}
        elif detail.Unpack(info):
            body["reason"] = info.reason
        elif detail.Unpack(retry):
            headers["Retry-After"] = str(math.ceil(retry.retry_delay.ToMilliseconds() / 1000))
    return JSONResponse(body, status, headers)


app = Starlette(
    routes=[
        Route("/uploads", begin, methods=["POST"]),
        Route("/uploads/{key}", abort, methods=["DELETE"]),
        Route("/uploads/{key}/parts", list_parts),
        Route("/uploads/{key}/parts/{number}", sign_part),
        Route("/uploads/{key}/complete", complete, methods=["POST"]),
        Route("/uploads/{key}/events", watch),
        Route("/reasons", reasons),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ],
    exception_handlers={grpc.aio.AioRpcError: refuse},
    lifespan=lifespan,
)
