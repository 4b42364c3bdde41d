"""A client of the running service, like that of another team: gRPC for calls, HTTP for the upload's PUT.

It stores interrupted uploads in parts, so that `upload --resume` can go on with them.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import httpx
import trio
from pydantic import SecretStr

from avion_media.cli.problems import CommandFailed, UsageError
from avion_media.common.credentials import MIN_OPERATOR_TOKEN, MIN_TOKEN, read_tokens
from avion_media.common.errors import Reason
from avion_media.common.formats import by_filename
from avion_media.common.parts import MIN_PART_BYTES
from avion_media.common.settings import PREFIX
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.common.wire.avion.media_grpc import MediaServiceStub
from avion_media.config import Config
from avion_media.media.scrubber import known_format
from avion_media.servers.settings import AdminConfig, ClientConfig
from mediascrub import HEAD_BYTES, sniff
from trio_grpc import CallError, CallOptions, Code, ConnectionEnded, open_channel
from trio_redis import Backoff, run_all

_CHUNK_BYTES = 256 << 10
_CALL_S = 15.0
_WAIT_S = 300.0
_PARTS_AT_ONCE = 4
_ROUNDS = 5  # in which parts that failed are signed and sent once more
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_PUT_S = 60.0
_STALL_S = 5.0
_REMEMBERED_S = 30 * 86400.0
_TLS_HINT = f" (if it uses TLS, see {PREFIX}CLIENT__TLS_CA)"  # a server with TLS ignores plain text, or hangs up

T = TypeVar("T")
Sent = Callable[[int], object]
"""Called with the number of bytes that were sent. Those of a part that the store did not take count again."""


class StallNotice:
    """Counts what is sent of a file, and prints what the upload waits for, once nothing moves for a while."""

    def __init__(self, name: str, sent: Sent) -> None:
        self._name = name
        self._sent = sent
        self._moved_at = trio.current_time()
        self._printed: set[str] = set()

    def sent(self, count: int) -> None:
        """``count`` more bytes were sent."""
        self._moved_at = trio.current_time()
        self._sent(count)

    async def wait(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call that waits for ``what``."""
        watching = trio.CancelScope()

        async def run() -> T:
            try:
                return await call()
            finally:
                watching.cancel()

        async def watch() -> None:
            with watching:
                while (idle := trio.current_time() - self._moved_at) < _STALL_S:  # noqa: ASYNC110 - each byte moves it
                    await trio.sleep(_STALL_S - idle)
                if what not in self._printed:  # other parts might wait for the same
                    self._printed.add(what)
                    click.echo(f"{self._name}: waiting for {what}", err=True)

        self._moved_at = trio.current_time()
        result: T = (await run_all([run, watch]))[0]
        return result


class CallFailed(CommandFailed):
    """A call failed. ``code`` is the name of a gRPC status, which the service or this client has set. It is empty when
    the connection ended."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was begun: what the service returned for it. Without an upload id, all of it was sent."""

    media_id: str
    upload_id: str


class Memory:
    """One small file for each upload of the last 30 days, below ``$XDG_STATE_HOME/avion-media/uploads``.

    Its name is a hash of the service and of the uploaded file; after a change of that file it is another name. The
    content needs no protection: the service accepts an upload id only from its own callers.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._folder = Path(base) / "avion-media" / "uploads"

    def load(self, path: Path) -> Begun | None:
        """Return the upload of a file that was begun; None if there is none."""
        try:
            found = json.loads(self._file_of(path).read_text())
            return Begun(found["media_id"], found["upload_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, path: Path, begun: Begun) -> None:
        """Record that an upload was begun or sent. If that fails, the upload goes on, but cannot be resumed."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for each in self._folder.iterdir():
                if each.stat().st_mtime < time.time() - _REMEMBERED_S:
                    each.unlink(missing_ok=True)
            self._file_of(path).write_text(json.dumps({"media_id": begun.media_id, "upload_id": begun.upload_id}))

    def _file_of(self, path: Path) -> Path:
        about = path.stat()
        named = "\n".join([self._service, str(path.resolve()), str(about.st_size), str(about.st_mtime_ns)])
        return self._folder / f"{hashlib.sha256(named.encode(errors='surrogateescape')).hexdigest()[:32]}.json"


@asynccontextmanager
async def open_client(config: Config) -> AsyncIterator[Client]:
    """Open a client of the service that this configuration describes."""
    bind = config.client.address or config.grpc.bind.reachable
    metadata = caller_metadata(config.client)
    context = _tls_context(config.client)
    try:
        async with (
            open_channel(bind.host, bind.port, ssl_context=context) as channel,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            yield Client(MediaServiceStub(channel), http, str(bind), metadata)
    except ssl.SSLCertVerificationError as error:
        problem = f"the certificate of the service at {bind} is refused: {error.verify_message.rstrip('.')}"
        raise CommandFailed(f"{problem} (see {PREFIX}CLIENT__TLS_CA and __ADDRESS)") from None
    except OSError as error:
        problem = f"cannot reach the service at {bind}: {error.strerror or error}"
        raise CommandFailed(f"{problem} (is it running there? see {PREFIX}CLIENT__ADDRESS)") from None


def caller_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    """Return the metadata of gRPC calls: the caller's token, if there is one."""
    token = _token(config.token, config.token_file, "CLIENT__TOKEN_FILE", MIN_TOKEN)
    return (("authorization", f"Bearer {token}"),) if token else ()


def operator_headers(config: AdminConfig) -> dict[str, str]:
    """Return the headers for the admin port: an operator's token, if there is one, from the settings of the service."""
    token = _token(config.token, config.token_file, "ADMIN__TOKEN_FILE", MIN_OPERATOR_TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def admin_tls_context(config: AdminConfig) -> ssl.SSLContext:
    """Return a context that trusts exactly the certificate of the admin port, which is a file of this machine.

    So the name does not matter: commands connect to a loopback address, which is in few certificates. With a client CA
    the command shows the same certificate.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(config.tls_cert)
        if config.tls_client_ca:
            context.load_cert_chain(config.tls_cert, config.tls_key or None)
    except OSError as error:
        raise UsageError(f"{PREFIX}ADMIN__TLS_CERT: cannot use {config.tls_cert}: {error.strerror or error}") from None
    return context


def _token(given: SecretStr, path: str, setting: str, min_length: int) -> str:
    if given or not path:
        return given.get_secret_value()
    try:
        return next(iter(read_tokens(path, min_length)))
    except (OSError, ValueError) as error:
        raise UsageError(f"{PREFIX}{setting}: {error}") from None


def _tls_context(config: ClientConfig) -> ssl.SSLContext | None:
    """Return the configured TLS context; None for plain text."""
    if not config.tls_ca:
        return None
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        if config.tls_cert:
            context.load_cert_chain(config.tls_cert, config.tls_key or None)
    except OSError as error:
        files = ", ".join(each for each in (config.tls_ca, config.tls_cert, config.tls_key) if each)
        problem = f"cannot use {files}: {error.strerror or error}"
        raise UsageError(f"{PREFIX}CLIENT__TLS_CA, __TLS_CERT, __TLS_KEY: {problem}") from None
    context.set_alpn_protocols(["h2"])
    return context


class Client:
    """Makes calls with deadlines. Every failure is a `CommandFailed` with one helpful line."""

    def __init__(
        self, stub: MediaServiceStub, http: httpx.AsyncClient, address: str, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._options: CallOptions = {"metadata": metadata, "timeout_s": _CALL_S}
        self._stub = stub
        self._http = http
        self._address = address
        self._memory = Memory(address)
        self._capabilities: wire.Capabilities | None = None

    async def _call(self, call: Awaitable[T]) -> T:
        """Return the response of a call. Raises `CallFailed`."""
        try:
            return await call
        except ConnectionEnded:
            raise CallFailed("", f"the service at {self._address} ended the connection{_TLS_HINT}") from None
        except CallError as error:
            code, problem = error.code.name, f"{error.code.name}: {error.message}"
            if error.code is Code.DEADLINE_EXCEEDED:
                problem = f"no answer from {self._address} in time{_TLS_HINT}"
            elif error.code is Code.UNAUTHENTICATED:
                problem += f" (see {PREFIX}CLIENT__TOKEN)"
            raise CallFailed(code, problem) from None

    async def upload(self, path: Path, sent: Sent, *, owner: str = "", resume: bool = False) -> wire.MediaStatus:
        """Request, PUT, complete, and wait for the end. Large files go in parts, where the service allows that.

        ``resume`` goes on with an upload of the same file that was interrupted. If all of it was sent, it only waits.
        """
        stalls = StallNotice(path.name, sent)
        try:
            size = (await trio.Path(path).stat()).st_size
            content_type = await declared_type(path, size)
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}") from None
        begun = self._memory.load(path) if resume else None
        if begun is not None and await self._is_over(begun):
            begun = None
        if begun is not None and not begun.upload_id:
            click.echo(f"{path}: this file was uploaded before, as {begun.media_id}; it is not sent again", err=True)
            return await self._wait(begun.media_id, stalls)
        filename = os.fsencode(path.name).decode(errors="replace")  # a file's name might not be UTF-8
        request = wire.RequestMediaUploadRequest(
            filename=filename,
            content_type=content_type,
            size=size,
            owner=owner,
            multipart=await self._goes_in_parts(size),
        )
        if request.multipart:
            return await self._upload_in_parts(path, request, stalls, begun)
        granted = await self._call(self._stub.RequestMediaUpload(request, **self._options))
        whole = wire.UploadPart(size=size, url=granted.upload_url, headers=granted.upload_headers)
        try:
            response = await self._put(path, whole, stalls)
        except httpx.TimeoutException:
            raise CommandFailed(f"{path}: {_store_of(whole)} did not respond within {_PUT_S:g} s") from None
        except httpx.HTTPError as error:
            raise CommandFailed(f"{path}: {_store_of(whole)} did not accept the file: {error}") from None
        if response.status_code != 200:
            raise CommandFailed(f"{path}: the object store answered {response.status_code}: {response.text[:200]}")
        await self.complete(granted.media_id)
        self._memory.remember(path, Begun(granted.media_id, ""))
        return await self._wait(granted.media_id, stalls)

    async def _wait(self, media_id: str, stalls: StallNotice) -> wire.MediaStatus:
        return await stalls.wait(f"the service at {self._address} to process it", partial(self.wait, media_id))

    async def _goes_in_parts(self, size: int) -> bool:
        if size < MIN_PART_BYTES:
            return False
        allowed = self._capabilities = self._capabilities or await self._get_capabilities()
        return allowed.multipart and size > allowed.multipart_threshold

    async def _get_capabilities(self) -> wire.Capabilities:
        try:
            return await self._call(self._stub.GetCapabilities(wire.GetCapabilitiesRequest(), **self._options))
        except CallFailed as failed:
            if failed.code != "PERMISSION_DENIED":
                raise
            return wire.Capabilities()  # not allowed to this caller: use one PUT

    async def _upload_in_parts(
        self, path: Path, request: wire.RequestMediaUploadRequest, stalls: StallNotice, begun: Begun | None
    ) -> wire.MediaStatus:
        """Send all parts that the store does not have, complete the upload, and wait for its end."""
        if begun is None:
            granted = await self._call(self._stub.RequestMediaUpload(request, **self._options))
            begun = Begun(granted.media_id, granted.upload_id)
            self._memory.remember(path, begun)
        click.echo(f"{path}: sent in parts, as {begun.media_id}", err=True)
        await self._send_parts(path, begun, stalls)
        await self.complete(begun.media_id, begun.upload_id)
        self._memory.remember(path, Begun(begun.media_id, ""))
        return await self._wait(begun.media_id, stalls)

    async def _is_over(self, begun: Begun) -> bool:
        """Return whether an upload has to begin again, because it expired, failed, or was aborted or deleted."""
        status = await self.known_status(begun.media_id)
        return status is None or status.state in (wire.MediaStatus.DELETED, wire.MediaStatus.FAILED)

    async def _send_parts(self, path: Path, begun: Begun, stalls: StallNotice) -> None:
        pause = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        for round_ in range(_ROUNDS):
            missing = await self._missing(begun)
            if not missing:
                return
            if round_:
                await trio.sleep(pause.failed())
            await run_all([partial(self._send_part, path, part, stalls) for part in missing], _PARTS_AT_ONCE)
        if await self._missing(begun):
            raise CommandFailed(
                f"{path}: not all parts could be stored; go on later with `avion-media upload --resume`"
            )

    async def _missing(self, begun: Begun) -> list[wire.UploadPart]:
        """Return the parts that the store does not have, signed. A completed upload has none."""
        request = wire.SignUploadPartsRequest(media_id=begun.media_id, upload_id=begun.upload_id)
        try:
            signed = await self._call(self._stub.SignUploadParts(request, **self._options))
        except CallFailed as failed:
            if failed.code != "NOT_FOUND":
                raise
            return []
        return [part for part in signed.parts if not part.stored]

    async def _send_part(self, path: Path, part: wire.UploadPart, stalls: StallNotice) -> None:
        """Send one part. If that fails, the next round sends it again."""
        with suppress(httpx.HTTPError):
            await self._put(path, part, stalls)

    async def _put(self, path: Path, part: wire.UploadPart, stalls: StallNotice) -> httpx.Response:
        """Send a part of a file to its URL, or the whole file as part 0. Return the store's response."""
        body = _bytes_of(path, part.offset, part.size, stalls.sent)
        headers = {**part.headers, "Content-Length": str(part.size)}
        try:
            put = partial(self._http.put, part.url, content=body, headers=headers, timeout=_PUT_S)
            return await stalls.wait(_store_of(part), put)
        except OSError as error:  # of the file: those of the connection are `httpx.HTTPError`
            raise CommandFailed(f"{path}: {error.strerror}") from None

    async def complete(self, media_id: str, upload_id: str = "") -> None:
        """Report that all bytes of an upload are in the store."""
        request = wire.CompleteMediaUploadRequest(media_id=media_id, upload_id=upload_id)
        await self._call(self._stub.CompleteMediaUpload(request, **self._options))

    async def wait(self, media_id: str, at_most_s: float = _WAIT_S) -> wire.MediaStatus:
        """Wait until a media item is in its final state, or is held for a moderator. Return its status."""

        async def follow() -> wire.MediaStatus | None:
            last = None
            request, options = wire.GetMediaStatusRequest(media_id=media_id), self._options | {"timeout_s": at_most_s}
            async with aclosing(self._stub.WatchMediaStatus(request, **options)) as statuses:
                async for status in statuses:
                    last = status
                    if status.reason == Reason.HELD:
                        break
            return last

        status = await self._call(follow())
        if status is None:
            raise CommandFailed(f"{media_id}: the service ended the watch without a status")
        return status

    async def status(self, media_id: str) -> wire.MediaStatus:
        """Return the status of a media item."""
        request = wire.GetMediaStatusRequest(media_id=media_id)
        return await self._call(self._stub.GetMediaStatus(request, **self._options))

    async def known_status(self, media_id: str) -> wire.MediaStatus | None:
        """Return the status of a media item; None if the service does not know it."""
        try:
            return await self.status(media_id)
        except CallFailed as failed:
            if failed.code != "NOT_FOUND":
                raise
            return None

    async def cache(self, url: str) -> wire.CacheRemoteMediaResponse:
        """Request a remote media item."""
        request = wire.CacheRemoteMediaRequest(remote_url=url)
        return await self._call(self._stub.CacheRemoteMedia(request, **self._options))


def _store_of(part: wire.UploadPart) -> str:
    return f"the object store at {httpx.URL(part.url).netloc.decode()}"


async def _bytes_of(path: Path, offset: int, size: int, sent: Sent) -> AsyncIterator[bytes]:
    async with await trio.open_file(path, "rb") as file:
        await file.seek(offset)
        while size > 0 and (chunk := await file.read(min(_CHUNK_BYTES, size))):
            yield chunk
            size -= len(chunk)
            sent(len(chunk))


async def declared_type(path: Path, size: int) -> str:
    """Return the content type to declare for a file of ``size`` bytes. It depends on the name, as in browsers; if the
    extension is not known, on the content. Raises `OSError`."""
    known = by_filename(path.name)
    if known is None:
        async with await trio.open_file(path, "rb") as file:
            head = await file.read(HEAD_BYTES)
        known = known_format(sniff(head, size=size))
    if known is not None:
        return known.content_type
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
