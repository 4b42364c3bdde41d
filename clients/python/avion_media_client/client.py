"""Calls with deadlines, and an upload of a file that goes on after an interruption."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import httpx

from avion_media_client.errors import (
    Conflict,
    FileChanged,
    MediaDeleted,
    MediaError,
    MediaFailed,
    NotFound,
    StoreRefused,
    Unavailable,
    error_of,
)
from avion_media_client.wire.avion import media_pb2 as media

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the bytes that the store has or was sent, and the size of the file."""

_RETRIES = {
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
_THIS_MACHINE = re.compile(r"unix(-abstract)?:.+|(dns:(///)?)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.ASCII)
_CALL_S, _STORE_S = 10.0, 30.0
_CHUNK_BYTES = 256 << 10
_JOIN_S = 60.0  # the least deadline of a call in which the store joins parts
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # between attempts to send bytes that the store did not take


@dataclass(frozen=True, slots=True)
class UploadInParts:
    """What has to be kept to go on with an upload in parts, also in another process."""

    media_id: str
    upload_id: str


class MediaClient:
    """A client of one service. Threads may share it. Close it, or use it as a context manager.

    ``tls_ca``: the certificates (PEM) of the authority that signed the service's; None: a connection without TLS.
    ``token``: what names the caller; only over TLS, or to this machine, else `ValueError`. ``call_s``: the deadline of
    each call, within which a call that ends with UNAVAILABLE is repeated. ``store_s``: an attempt to send bytes ends
    when for so long the store takes no byte and answers nothing.
    """

    def __init__(
        self,
        address: str,
        *,
        tls_ca: bytes | None = None,
        token: str = "",
        call_s: float = _CALL_S,
        store_s: float = _STORE_S,
    ) -> None:
        if token and tls_ca is None and not _THIS_MACHINE.fullmatch(address):
            raise ValueError(f"a token needs TLS to {address}: pass tls_ca, or set AVION_MEDIA_CLIENT__TLS_CA")
        options = [("grpc.service_config", json.dumps(_RETRIES))]
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if tls_ca is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(tls_ca), options)
        self._http = httpx.Client(trust_env=False, timeout=store_s)
        self._call_s = call_s

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, *, call_s: float = _CALL_S, store_s: float = _STORE_S
    ) -> Self:
        """Return a client by AVION_MEDIA_CLIENT__ADDRESS, __TLS_CA and __TOKEN_FILE, as ``avion-media upload`` does.

        Without an address AVION_MEDIA_GRPC__BIND counts, which the line ``export …`` of ``make demo`` sets.
        """
        variables = os.environ if environment is None else environment

        def setting(name: str) -> str:
            return variables.get(f"AVION_MEDIA_{name}", "")

        ca, token_file = setting("CLIENT__TLS_CA"), setting("CLIENT__TOKEN_FILE")
        return cls(
            setting("CLIENT__ADDRESS") or setting("GRPC__BIND") or "127.0.0.1:50051",
            tls_ca=Path(ca).read_bytes() if ca else None,
            token=Path(token_file).read_text().split()[0] if token_file else setting("CLIENT__TOKEN"),
            call_s=call_s,
            store_s=store_s,
        )

    def close(self) -> None:
        """End its connections."""
        self._channel.close()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, method: str, request: Any, response: type[T], *, timeout_s: float | None = None) -> T:
        """Make any unary call: ``call("GetUsage", media.GetUsageRequest(owner="alice"), media.GetUsageResponse)``.

        Without ``timeout_s`` the deadline is ``call_s``.
        """
        stub = self._channel.unary_unary(
            f"/avion.MediaService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,  # type: ignore[attr-defined]
        )
        try:
            answer: T = stub(request, timeout=timeout_s or self._call_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_of(error, method) from None
        return answer

    def capabilities(self) -> media.Capabilities:
        """Return the limits of the service, and a sentence for each reason of a failure."""
        return self.call("GetCapabilities", media.GetCapabilitiesRequest(), media.Capabilities)

    def status(self, media_id: str) -> media.MediaStatus:
        """Return the present status of a media item. Raises `NotFound`."""
        return self.call("GetMediaStatus", media.GetMediaStatusRequest(media_id=media_id), media.MediaStatus)

    def watch(self, media_id: str, timeout_s: float = 600.0) -> Iterator[media.MediaStatus]:
        """Yield each status of a media item; the last one is final. Of a READY media item it is the only one."""
        stub = self._channel.unary_stream(
            "/avion.MediaService/WatchMediaStatus",
            request_serializer=media.GetMediaStatusRequest.SerializeToString,
            response_deserializer=media.MediaStatus.FromString,
        )
        statuses = stub(media.GetMediaStatusRequest(media_id=media_id), timeout=timeout_s, metadata=self._metadata)
        try:
            yield from statuses
        except grpc.RpcError as error:
            raise error_of(error, "WatchMediaStatus") from None
        finally:
            statuses.cancel()

    def wait(self, media_id: str, timeout_s: float = 600.0) -> media.MediaStatus:
        """Return the status of a media item when it is READY, also through outages of the service.

        Raises `MediaFailed` with a sentence for the person who uploaded it, `MediaDeleted`, `NotFound`, and
        `Unavailable` after ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                *_, last = self.watch(media_id, max(0.1, deadline - time.monotonic()))
            except Unavailable as error:
                if time.monotonic() + (error.retry_after_s or 0) >= deadline:
                    raise
                time.sleep(error.retry_after_s or 0)
                continue
            if last.state == media.MediaStatus.READY:
                return last
            if last.state == media.MediaStatus.DELETED:
                raise MediaDeleted(f"{media_id} was deleted", reason="DELETED")
            sentences = {each.code: each.sentence for each in self.capabilities().reasons}
            sentence = sentences.get(last.reason, f"This file cannot be published ({last.reason}).")
            raise MediaFailed(sentence, reason=last.reason, retryable=last.retryable)

    def upload(
        self,
        path: str | Path,
        content_type: str,
        *,
        owner: str = "",
        filename: str = "",
        visibility: media.MediaVisibility = media.MEDIA_VISIBILITY_UNSPECIFIED,
        progress: Progress | None = None,
        begun: Callable[[UploadInParts], None] | None = None,
        resume: UploadInParts | None = None,
        **more: Any,
    ) -> str:
        """Send a file to the store, and say that it is there. Return its media id, for `wait`.

        A file above the service's threshold goes in parts. Then ``begun`` is called before the first byte: keep what it
        gets. Given back as ``resume``, only what the store does not have is sent; an upload that is complete already is
        left as it is, and one that is gone begins again. ``more``: other fields of RequestMediaUploadRequest.

        Raises `StoreRefused` if the store does not take the bytes after some attempts, `FileChanged` if the file has
        not the size of the upload in ``resume``, `Unavailable` if a replica of an earlier version would make private
        media public (nothing is sent then), and the errors of calls. If one has a ``media_id``, the file is in the
        store, and `complete` may be repeated instead.
        """
        path = Path(path)
        size = path.stat().st_size
        note = progress or (lambda _sent, _size: None)
        if resume is not None and (media_id := self._resumed(path, size, resume, note)):
            return media_id
        allowed = self.capabilities()
        request = media.RequestMediaUploadRequest(
            filename=filename or path.name,
            content_type=content_type,
            size=size,
            owner=owner,
            visibility=visibility,
            multipart=allowed.multipart and size > allowed.multipart_threshold,
            **more,
        )
        granted = self.call("RequestMediaUpload", request, media.RequestMediaUploadResponse)
        if visibility > media.MEDIA_VISIBILITY_PUBLIC and granted.visibility != visibility:
            raise Unavailable("this replica does not know private media", retry_after_s=1.0)
        if granted.upload_id:
            upload = UploadInParts(granted.media_id, granted.upload_id)
            if begun is not None:
                begun(upload)
            self._send_parts(path, size, upload, note)
        else:
            whole = media.UploadPart(size=size, url=granted.upload_url, headers=granted.upload_headers)
            for pause_s in (*_PAUSES_S, None):
                problem = self._put(path, whole, partial(_add, note, 0, size))
                if problem is None:
                    break
                if pause_s is None or problem.is_final:
                    raise problem
                time.sleep(pause_s)
        self.complete(granted.media_id, granted.upload_id)
        return granted.media_id

    def complete(self, media_id: str, upload_id: str = "") -> None:
        """Say that the file is in the store, which joins its parts. It may be repeated; its errors have the id."""
        request = media.CompleteMediaUploadRequest(media_id=media_id, upload_id=upload_id)
        timeout_s = max(_JOIN_S, self._call_s) if upload_id else None
        try:
            self.call("CompleteMediaUpload", request, media.CompleteMediaUploadResponse, timeout_s=timeout_s)
        except MediaError as error:
            error.media_id = media_id
            raise

    def delete(self, media_ids: Sequence[str], *, owner: str = "", delay_s: int | None = None) -> Sequence[str]:
        """Delete media: nobody sees them any more when this returns. Their files go after ``delay_s``.

        Without it the service's DELETE__DELAY counts, which is also the most. With an ``owner``, media of others stay;
        their ids are returned. It may be repeated.
        """
        request = media.DeleteMediaRequest(media_ids=media_ids, owner=owner)
        if delay_s is not None:
            request.delay.FromSeconds(delay_s)
        return self.call("DeleteMedia", request, media.DeleteMediaResponse).not_owned

    def undelete(self, media_ids: Sequence[str]) -> media.UndeleteMediaResponse:
        """Take a deletion back, before its files are gone. The response says what became of each media item."""
        request = media.UndeleteMediaRequest(media_ids=media_ids)
        return self.call("UndeleteMedia", request, media.UndeleteMediaResponse)

    def sign(self, media_ids: Sequence[str], *, ttl_s: int = 0, audience: str = "") -> media.SignMediaUrlsResponse:
        """Return a token for each of these private media. It replaces ``{token}`` in the paths of the status.

        Without ``ttl_s`` the service's time to live counts. ``audience``: for whom the tokens are, so that theirs alone
        can be revoked. Deleted media get no token.
        """
        request = media.SignMediaUrlsRequest(media_ids=media_ids, audience=audience)
        if ttl_s:
            request.ttl.FromSeconds(ttl_s)
        return self.call("SignMediaUrls", request, media.SignMediaUrlsResponse)

    def revoke(self, media_ids: Sequence[str], *, audience: str = "") -> None:
        """Refuse all tokens of these media, or those of an audience, that were signed before. It may be repeated."""
        request = media.RevokeMediaUrlsRequest(media_ids=media_ids, audience=audience)
        self.call("RevokeMediaUrls", request, media.RevokeMediaUrlsResponse)

    def abort(self, upload: UploadInParts) -> None:
        """Give up an upload in parts, so that the store forgets its bytes. It may be repeated."""
        request = media.AbortMediaUploadRequest(media_id=upload.media_id, upload_id=upload.upload_id)
        self.call("AbortMediaUpload", request, media.AbortMediaUploadResponse)

    def parts(self, upload: UploadInParts, numbers: Sequence[int] = ()) -> Sequence[media.UploadPart]:
        """Return these parts, or all, with signed URLs, and whether the store has them.

        Raises `NotFound` when the parts are joined, the upload was aborted, or has expired.
        """
        request = media.SignUploadPartsRequest(media_id=upload.media_id, upload_id=upload.upload_id, numbers=numbers)
        return self.call("SignUploadParts", request, media.SignUploadPartsResponse).parts

    def _resumed(self, path: Path, size: int, upload: UploadInParts, note: Progress) -> str:
        """Go on with an upload. Return its media id; nothing if it is gone."""
        try:
            try:
                self._send_parts(path, size, upload, note)
            except NotFound:  # joined, completed, aborted or expired
                if self.status(upload.media_id).state in (media.MediaStatus.FAILED, media.MediaStatus.DELETED):
                    return ""
            self.complete(upload.media_id, upload.upload_id)
        except (Conflict, NotFound):
            return ""
        return upload.media_id

    def _send_parts(self, path: Path, size: int, upload: UploadInParts, note: Progress) -> None:
        pauses = iter(_PAUSES_S)
        while True:
            parts = self.parts(upload)
            expected = sum(part.size for part in parts)
            if expected != size:
                raise FileChanged(f"{path}: the upload was begun with a file of {expected} bytes; this one has {size}")
            stored = before = sum(part.size for part in parts if part.stored)
            note(stored, size)
            problem: StoreRefused | None = None
            for part in parts:
                if not part.stored:
                    problem = self._put(path, part, partial(_add, note, stored, size))
                    if problem is not None:  # a store that hangs would take its time for each part
                        break
                    stored += part.size
            if problem is None:
                return
            if stored > before:
                pauses = iter(_PAUSES_S)
            pause_s = next(pauses, None)
            if pause_s is None:
                raise problem
            time.sleep(pause_s)

    def _put(self, path: Path, part: media.UploadPart, note: Callable[[int], None]) -> StoreRefused | None:
        """Send a part, or a whole file. Return what is wrong; None if the store took it."""
        headers = {**part.headers, "Content-Length": str(part.size)}
        try:
            answer = self._http.put(part.url, content=_bytes_of(path, part.offset, part.size, note), headers=headers)
        except httpx.HTTPError as error:
            return StoreRefused(f"{path}: the object store did not accept the file: {error or type(error).__name__}")
        if answer.is_success:
            return None
        is_final = answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS
        problem = f"{path}: the object store answered {answer.status_code}: {answer.text[:200]}"
        return StoreRefused(problem, is_final=is_final)


def _add(note: Progress, before: int, size: int, sent: int) -> None:
    note(before + sent, size)


def _bytes_of(path: Path, offset: int, size: int, note: Callable[[int], None]) -> Iterable[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        sent = 0
        while sent < size:
            chunk = file.read(min(_CHUNK_BYTES, size - sent))
            if not chunk:
                raise OSError(f"{path}: it became shorter while it was sent")
            sent += len(chunk)
            yield chunk
            note(sent)
