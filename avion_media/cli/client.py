"""A client of the running service, as another team's would be: gRPC for calls, HTTP for the upload's PUT."""

from __future__ import annotations

import mimetypes
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
import trio

from avion_media.cli.output import Failure, Misuse
from avion_media.cli.tokens import caller_metadata
from avion_media.config import PREFIX, Bind, ClientConfig, Config
from avion_media.domain.formats import by_filename
from avion_media.media.sniff import HEAD_BYTES, sniff
from avion_media.wire import purerpc
from avion_media.wire.avion import media_pb2 as wire
from avion_media.wire.avion.media_grpc import MediaServiceStub

_CHUNK_BYTES = 256 << 10
_CALL_S = 15.0
_WAIT_S = 300.0
Progress = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """How one upload ended."""

    file: str
    status: wire.MediaStatus


def reachable(bind: Bind) -> Bind:
    """Where a server that listens everywhere can be reached from here."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    return Bind(host=wildcard.get(bind.host, bind.host), port=bind.port)


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[Client]:
    """A client of the service that this configuration describes."""
    bind = config.client.address or reachable(config.grpc.bind)
    metadata = caller_metadata(config.client)
    context = _tls_context(config.client)
    opening = (
        purerpc.secure_channel(bind.host, bind.port, context)
        if context
        else purerpc.insecure_channel(bind.host, bind.port)
    )
    try:
        async with (
            opening as channel,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            yield Client(MediaServiceStub(channel), http, str(bind), metadata)
    except OSError as error:
        raise Failure(
            f"cannot reach the service at {bind}: {error.strerror or error} (is `avion-media serve` running?)"
        ) from None


def _tls_context(config: ClientConfig) -> ssl.SSLContext | None:
    """As configured, or None for plain text."""
    if not config.tls_ca:
        return None
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        if config.tls_cert:
            context.load_cert_chain(config.tls_cert, config.tls_key or None)
    except OSError as error:
        raise Misuse(f"{PREFIX}CLIENT__TLS_CA, __TLS_CERT, __TLS_KEY: {error}") from None
    context.set_alpn_protocols(["h2"])
    return context


class Client:
    """Calls with deadlines; every failure is a `Failure` with one helpful line."""

    def __init__(
        self, stub: Any, http: httpx.AsyncClient, address: str, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._metadata = metadata
        self._stub = stub
        self._http = http
        self._address = address

    async def _call(self, call: Awaitable[T], timeout_s: float = _CALL_S) -> T:
        try:
            with trio.fail_after(timeout_s):
                return await call
        except trio.TooSlowError:
            raise Failure(f"no answer from {self._address} within {timeout_s:g} s") from None
        except purerpc.RpcFailedError as error:
            raise Failure(f"{error.status.status_code.name}: {error.status.status_message}") from None
        except (
            purerpc.grpclib.exceptions.GRPCError,
            anyio.EndOfStream,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            raise Failure(f"the service at {self._address} ended the connection") from None

    async def upload(self, path: Path, progress: Progress = lambda _sent: None) -> Uploaded:
        """Request, PUT, complete, and wait for the end."""
        try:
            size = (await trio.Path(path).stat()).st_size
            content_type = await declared_type(path, size)
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from None
        filename = os.fsencode(path.name).decode(errors="replace")  # names of files need not be UTF-8
        request = wire.RequestMediaUploadRequest(filename=filename, content_type=content_type, size=size)
        granted = await self._call(self._stub.RequestMediaUpload(request, metadata=self._metadata))
        await self._put(path, granted, size, progress)
        completed = wire.CompleteMediaUploadRequest(media_id=granted.media_id)
        await self._call(self._stub.CompleteMediaUpload(completed, metadata=self._metadata))
        return Uploaded(str(path), await self.wait(granted.media_id))

    async def _put(self, path: Path, granted: wire.RequestMediaUploadResponse, size: int, progress: Progress) -> None:
        async def body() -> AsyncIterator[bytes]:
            sent = 0
            async with await trio.open_file(path, "rb") as file:
                while chunk := await file.read(_CHUNK_BYTES):
                    yield chunk
                    sent += len(chunk)
                    progress(sent)

        headers = dict(granted.upload_headers) | {"Content-Length": str(size)}
        try:
            response = await self._http.put(granted.upload_url, content=body(), headers=headers, timeout=60.0)
        except httpx.HTTPError as error:
            raise Failure(f"{path}: the object store did not take it: {error or type(error).__name__}") from None
        if response.status_code != 200:
            raise Failure(f"{path}: the object store answered {response.status_code}: {response.text[:200]}")

    async def wait(self, media_id: str) -> wire.MediaStatus:
        """Follow a medium to its final state."""

        async def follow() -> wire.MediaStatus | None:
            last = None
            request = wire.GetMediaStatusRequest(media_id=media_id)
            async for status in self._stub.WatchMediaStatus(request, metadata=self._metadata):
                last = status
            return last

        status = await self._call(follow(), _WAIT_S)
        if status is None:
            raise Failure(f"{media_id}: the service ended the watch without a status")
        return status

    async def status(self, media_id: str) -> wire.MediaStatus:
        """What is known of a medium."""
        request = wire.GetMediaStatusRequest(media_id=media_id)
        call: Awaitable[wire.MediaStatus] = self._stub.GetMediaStatus(request, metadata=self._metadata)
        return await self._call(call)

    async def cache(self, url: str) -> wire.CacheRemoteMediaResponse:
        """Ask for a remote medium."""
        request = wire.CacheRemoteMediaRequest(remote_url=url)
        call: Awaitable[wire.CacheRemoteMediaResponse] = self._stub.CacheRemoteMedia(request, metadata=self._metadata)
        return await self._call(call)


async def declared_type(path: Path, size: int) -> str:
    """What to declare for a file of ``size`` bytes: by its name, as browsers do; by its content where the name has no
    extension that we know. Raises `OSError`."""
    known = by_filename(path.name)
    if known is None:
        async with await trio.open_file(path, "rb") as file:
            head = await file.read(HEAD_BYTES)
        known = sniff(head, size=size).format
    if known is not None:
        return known.content_type
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
