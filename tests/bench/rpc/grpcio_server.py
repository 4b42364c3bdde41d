"""The other side: RequestMediaUpload as one writes it with grpcio and boto3, with our checks and ids.

usage: grpcio_server.py <address>       prints "ready" when it serves; ends with its standard input

Configuration and credentials come from the environment, as the service's do.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import boto3
import grpc
from botocore.config import Config as BotoConfig

from avion_media.common import keys
from avion_media.common.ids import new_media_id
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config, load
from avion_media.servers.api.validation import BadRequest, check_upload_request

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class MediaService:
    """The one handler that is compared."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._enabled = config.decoders.enabled()
        self._s3: S3Client = boto3.client(
            "s3",
            endpoint_url=config.s3.endpoint_url,
            region_name=config.s3.region,
            config=BotoConfig(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    async def request_media_upload(
        self, request: wire.RequestMediaUploadRequest, context: grpc.aio.ServicerContext
    ) -> wire.RequestMediaUploadResponse:
        """Check, make an id, sign a PUT."""
        try:
            upload = check_upload_request(
                request.filename,
                request.content_type,
                request.size,
                request.sha256,
                limits=self._config.upload,
                enabled=self._enabled,
            )
        except BadRequest as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        now = time.time()
        media_id = new_media_id(upload.format, int(now * 1000))
        expires_s = int(self._config.upload.url_ttl)
        url = self._s3.generate_presigned_url(
            "put_object",
            Params={
                "Bucket": self._config.s3.bucket,
                "Key": keys.incoming(media_id),
                "ContentType": upload.content_type,
                "ContentLength": upload.size_bytes,
            },
            ExpiresIn=expires_s,
        )
        response = wire.RequestMediaUploadResponse(
            media_id=media_id.text, upload_url=url, upload_headers={"Content-Type": upload.content_type}
        )
        response.expires_at.seconds = int(now) + expires_s
        return response


async def serve(address: str) -> None:
    """Serve until standard input ends."""
    service = MediaService(load())
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        service.request_media_upload,
        request_deserializer=wire.RequestMediaUploadRequest.FromString,
        response_serializer=wire.RequestMediaUploadResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("avion.MediaService", {"RequestMediaUpload": handler})]
    )
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
