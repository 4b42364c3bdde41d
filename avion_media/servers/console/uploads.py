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
from avion_media.servers.console.sessions import read_body
from trio_grpc import CallContext, Service


class Uploads:
    """Carries out the steps of an upload. Requests and responses are the messages of the contract, as JSON."""

    def __init__(self, service: Service) -> None:
        self._handlers = {name: handler for name, (handler, _signature) in service.methods.items()}

    async def call(self, method: str, request: Request) -> Response:
        """Return the response of a call about the media item in the path. A gRPC status becomes an error."""
        body = (await read_body(request)).decode(errors="replace")
        try:
            message: Any = getattr(wire, f"{method}Request")(**request.path_params)
            answer = await self._handlers[method](Parse(body or "{}", message), CallContext.local())
        except ParseError as error:
            return JSONResponse({"error": str(error)}, 400)
        except Exception as error:
            known = map_exception(error)
            if known is None:
                raise
            return JSONResponse({"error": known.message}, 409)
        return JSONResponse(MessageToDict(answer, preserving_proto_field_name=True))
