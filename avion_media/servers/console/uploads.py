"""The upload box of `avion-media dev`: the three steps of every client, through the same service.

The browser sends its bytes to the object store itself. This module only takes JSON where a gateway uses gRPC.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, Parse, ParseError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.servers.api.errors import map_exception
from avion_media.servers.api.media_service import MediaService
from avion_media.servers.console.sessions import read_body
from trio_grpc import CallContext


class Uploads:
    """The three steps of an upload. Requests and responses are the messages of the contract, as JSON."""

    def __init__(self, service: MediaService) -> None:
        self._service = service

    async def begin(self, request: Request) -> Response:
        """Begin an upload, as RequestMediaUpload does."""
        body = (await read_body(request)).decode(errors="replace")
        return await self._answered("RequestMediaUpload", wire.RequestMediaUploadRequest(), body)

    async def complete(self, request: Request) -> Response:
        """Complete an upload, after its bytes are in the object store."""
        named = wire.CompleteMediaUploadRequest(media_id=request.path_params["media_id"])
        return await self._answered("CompleteMediaUpload", named)

    async def status(self, request: Request) -> Response:
        """Return the status of an upload. Thumbnails are paths on the origin."""
        named = wire.GetMediaStatusRequest(media_id=request.path_params["media_id"])
        return await self._answered("GetMediaStatus", named)

    async def _answered(self, method: str, message: Any, body: str = "{}") -> Response:
        """Return the response of a call. A gRPC status becomes an error with a sentence."""
        try:
            Parse(body, message)
            answer = await getattr(self._service, method)(message, CallContext.local())
        except ParseError as error:
            return JSONResponse({"error": str(error)}, 400)
        except Exception as error:
            known = map_exception(error)
            if known is None:
                raise
            return JSONResponse({"error": known.message}, 409)
        return JSONResponse(MessageToDict(answer, preserving_proto_field_name=True))
