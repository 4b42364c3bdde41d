"""The upload box of `avion-media dev`: the three steps of every client, through the same service.

The browser sends its bytes to the object store itself. This module only takes JSON where a gateway uses gRPC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import MediaService
from trio_grpc import CallContext

Step = Callable[[Request], Coroutine[Any, Any, dict[str, Any]]]
_MAX_BODY_BYTES = 4096


class BadForm(Exception):
    """The page's script sent an invalid request."""


class Uploads:
    """The three steps of an upload: begin, complete, and the status."""

    def __init__(self, service: MediaService) -> None:
        self._service = service

    async def begin(self, request: Request) -> Response:
        """Begin an upload: ``{filename, content_type, size}`` → ``{media_id, url, headers}``."""
        return await _answered(self._begin, request)

    async def complete(self, request: Request) -> Response:
        """Complete an upload, after its bytes are in the object store. The response is ``{}``."""
        return await _answered(self._complete, request)

    async def status(self, request: Request) -> Response:
        """Return the status of an upload: ``{state, reason, thumbnails}``. Thumbnails are paths on the origin."""
        return await _answered(self._status, request)

    async def _begin(self, request: Request) -> dict[str, Any]:
        asked = await _json(request)
        granted = await self._service.RequestMediaUpload(
            wire.RequestMediaUploadRequest(
                filename=str(asked.get("filename", "")),
                content_type=str(asked.get("content_type", "")),
                size=int(asked.get("size", 0)),
            ),
            CallContext.local(),
        )
        return {
            "media_id": granted.media_id,
            "url": granted.upload_url,
            "headers": dict(granted.upload_headers),
        }

    async def _complete(self, request: Request) -> dict[str, Any]:
        media_id = request.path_params["media_id"]
        await self._service.CompleteMediaUpload(wire.CompleteMediaUploadRequest(media_id=media_id), CallContext.local())
        return {}

    async def _status(self, request: Request) -> dict[str, Any]:
        media_id = request.path_params["media_id"]
        status = await self._service.GetMediaStatus(wire.GetMediaStatusRequest(media_id=media_id), CallContext.local())
        return {
            "state": wire.MediaStatus.State.Name(status.state),
            "reason": status.reason,
            "thumbnails": dict(status.thumbnails),
        }


async def _answered(step: Step, request: Request) -> Response:
    """Return the response of a call. A gRPC status becomes an error with a sentence."""
    try:
        return JSONResponse(await step(request))
    except (BadForm, ValueError) as error:
        return JSONResponse({"error": str(error)}, 400)
    except Exception as error:
        known = map_exception(error)
        if known is None:
            raise
        return JSONResponse({"error": known.message}, 409)


async def _json(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise BadForm("too much")
    try:
        asked = json.loads(body)
    except ValueError:
        raise BadForm("not JSON") from None
    if not isinstance(asked, dict):
        raise BadForm("not an object")
    return asked
