"""Carries out a `patch_plan`: a multipart upload of copied and sent parts, completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from avion_media.backends.store.connection import Connection
from avion_media.backends.store.objects import PartRequest
from avion_media.backends.store.patch_plan import Part, Patch, patched
from avion_media.common.concurrency import in_turn
from avion_media.common.errors import MediaError, PreconditionFailed, SourceReplaced
from avion_media.common.telemetry import get_logger

_PARTS_AT_ONCE = 4  # each sent part is in memory, so this limits memory to a little over 64 MiB

_log = get_logger()


@dataclass(frozen=True, slots=True)
class PatchCopy:
    """Writes ``source_key`` (with ``source_etag``) to ``target_key``, with patches applied.

    ``only_if_absent`` asks the store to refuse if the target exists when the parts are joined. Ceph 18 ignores it, so
    callers that need it also check before.
    """

    connection: Connection
    source_key: str
    source_etag: str
    target_key: str
    patches: Sequence[Patch]
    only_if_absent: bool = False

    async def send(self, parts: Sequence[Part], headers: Mapping[str, Any]) -> str:
        """Write the new object from ``parts``, and return its etag. After an error or a cancel nothing is left."""
        target: dict[str, Any] = {"Bucket": self.connection.bucket, "Key": self.target_key}
        created = await self.connection.change(
            lambda client: client.create_multipart_upload(**target, **headers),
            self.target_key,
            operation="CreateMultipartUpload",
        )
        upload: dict[str, Any] = {**target, "UploadId": created["UploadId"]}
        try:
            etags: dict[int, str] = {}

            async def send_part(number: int, part: Part) -> None:
                etags[number] = await (self._send if part.sent else self._copy)(upload, number, part)

            numbered = list(enumerate(parts, start=1))
            await in_turn([partial(send_part, *each) for each in numbered], _PARTS_AT_ONCE)
            condition: dict[str, Any] = {"IfNoneMatch": "*"} if self.only_if_absent else {}
            listed: list[Any] = [{"PartNumber": number, "ETag": etags[number]} for number, _ in numbered]
            completed = await self.connection.change(
                lambda client: client.complete_multipart_upload(
                    **upload, MultipartUpload={"Parts": listed}, **condition
                ),
                self.target_key,
                operation="CompleteMultipartUpload",
            )
        except BaseException:
            await self._abort(upload)
            raise
        return str(completed["ETag"]).strip('"')

    async def _copy(self, upload: Mapping[str, Any], number: int, part: Part) -> str:
        request = {
            **upload,
            "PartNumber": number,
            "CopySource": {"Bucket": self.connection.bucket, "Key": self.source_key},
            "CopySourceRange": f"bytes={part.start}-{part.end - 1}",
            "CopySourceIfMatch": f'"{self.source_etag}"',
        }
        with of_the_source():
            response = await self.connection.change(
                lambda client: client.upload_part_copy(**request), self.source_key, operation="UploadPartCopy"
            )
        return str(response["CopyPartResult"]["ETag"])

    async def _send(self, upload: Mapping[str, Any], number: int, part: Part) -> str:
        body = await self.patched_bytes(part)
        request = {**upload, "PartNumber": number, "Body": body}
        response = await self.connection.change(
            lambda client: client.upload_part(**request), self.target_key, operation="UploadPart"
        )
        self.connection.sent(len(body))
        return str(response["ETag"])

    async def patched_bytes(self, part: Part) -> bytes:
        """Return the bytes of one part of the new object. Bytes of the source that no patch replaces are fetched."""
        for offset, data in self.patches:
            if offset <= part.start and part.end <= offset + len(data):
                return data[part.start - offset : part.end - offset]
        byte_range = (part.start, part.end - 1)
        wanted = PartRequest(self.source_key, byte_range, self.source_etag, part.end - part.start)
        with of_the_source():
            base = await self.connection.get(wanted)
        self.connection.received(len(base.data))
        return patched(bytes(base.data), part.start, self.patches)

    async def _abort(self, upload: Mapping[str, Any]) -> None:
        """Abort the upload. If the store is unavailable, the bucket's lifecycle rule does it a day later."""
        # Shielded, since a cancelled task must not leave its parts; bounded by the deadline for the wait and by
        # `Connection.max_request_s` for a request that has begun.
        with trio.move_on_after(self.connection.max_request_s, shield=True):
            try:
                await self.connection.change(
                    lambda client: client.abort_multipart_upload(**upload),
                    self.target_key,
                    operation="AbortMultipartUpload",
                )
            except MediaError as error:
                _log.warning("store.abort_failed", key=self.target_key, detail=str(error))


@contextmanager
def of_the_source() -> Iterator[None]:
    """Convert a failed condition on the source, so that it is not taken for one on the target."""
    try:
        yield
    except PreconditionFailed as error:
        raise SourceReplaced(*error.args) from error
