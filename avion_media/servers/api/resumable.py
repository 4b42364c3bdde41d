"""Uploads in parts. Each step asks the store for the stored parts, so any replica can continue an upload.

The ids that clients hold are opaque, and only this service can make one. An id contains the store's own id and the
granted size, because the store does not return the size before the upload is complete. The length of each part follows
from it. A MAC over both and the media id prevents forgery.

Decision: the key of the MAC is an object in the bucket (``secret/upload-ids``), which the first replica that needs it
creates. So every replica accepts the ids of all others, without configuration. Rejected: deriving the key from the
store's credentials (temporary ones differ between replicas and expire within hours), and a setting (one more secret to
create, distribute and rotate, for ids that live a day).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import trio

from avion_media.backends.store import (
    NOT_EXAMINED,
    MultipartUploads,
    ObjectStore,
    PresignedPut,
    StoredPart,
    UploadMissing,
    read_secret,
)
from avion_media.common import keys
from avion_media.common.clock import utc_now
from avion_media.common.errors import Dependency, MediaError, Unavailable
from avion_media.common.ids import MediaId
from avion_media.common.media import upload_metadata
from avion_media.common.parts import Part, PartPlan, plan_parts
from avion_media.common.records import CustomRecord
from avion_media.common.resources import ResourceSlot
from avion_media.media.settings import UploadConfig
from avion_media.process.audit.record import first_few
from avion_media.servers.api.validation import UploadRequest

_NAMED: Final = 10  # maximum missing parts in an error
_MAC_BYTES: Final = 16
_MAX_CHARACTERS: Final = 4096
_READ_AGAIN_S: Final = 60.0


class InvalidUploadId(ValueError):
    """This service did not make this id for this media item."""


class MultipartOff(MediaError):
    """URLs for parts are not safe with this store."""


class AlreadyCompleted(MediaError):
    """The upload was completed, so it cannot be aborted."""


class NoSuchUpload(MediaError):
    """The multipart upload was aborted or has expired."""


class PartsMissing(MediaError):
    """Some parts are not stored: ``numbers`` of ``count``."""

    def __init__(self, numbers: Sequence[int], count: int) -> None:
        named, one = first_few(list(map(str, numbers)), _NAMED), len(numbers) == 1
        super().__init__(f"part{'' if one else 's'} {named} of {count} {'is' if one else 'are'} not stored")
        self.numbers = numbers


@dataclass(frozen=True, slots=True)
class GrantedUpload:
    """The content of an upload id."""

    store_id: str
    plan: PartPlan


def _parse(text: str, _key: str) -> GrantedUpload:
    size, part, store_id = text.split(".", 2)
    return GrantedUpload(store_id, PartPlan(int(size), int(part)))


UPLOAD_ID = CustomRecord(
    "upload_id",
    GrantedUpload,
    "upload_id of an upload in parts",
    "RequestMediaUpload; its client has it",
    fields=["MAC", "size_bytes", "part_bytes", "store_id"],
    parse=_parse,
)


@dataclass(frozen=True, slots=True)
class SignedPart:
    """One part of an upload: either stored, or with the PUT that stores it."""

    part: Part
    stored: StoredPart | None = None
    put: PresignedPut | None = None


class ResumableUploads:
    """The steps of an upload in parts. Each can raise `Unavailable`, and can be repeated."""

    def __init__(self, store: ResourceSlot[ObjectStore], config: UploadConfig) -> None:
        self._store = store
        self._ttl = timedelta(seconds=config.multipart_ttl)
        self._url_ttl = timedelta(seconds=config.url_ttl)
        self._key: bytes | None = None
        self._read_at = 0.0
        self._reading = trio.Lock()

    def expires_at(self, media_id: MediaId) -> datetime:
        """Return when an upload ends if it is not completed."""
        return media_id.created + self._ttl

    def require(self) -> None:
        """Raise `MultipartOff` if clients cannot upload in parts."""
        refusal = self._uploads.refusal
        if refusal == NOT_EXAMINED:
            raise Unavailable(Dependency.STORE, refusal)
        if refusal:
            raise MultipartOff(refusal)

    async def begin(self, media_id: MediaId, request: UploadRequest) -> tuple[str, int]:
        """Begin an upload. Return its id, and the size of its parts."""
        plan = plan_parts(request.size_bytes)
        metadata = upload_metadata(request.owner, keep_credentials=request.keep_credentials)
        store_id = await self._uploads.create(
            keys.incoming(media_id), content_type=request.content_type, metadata=metadata
        )
        return await self._seal(media_id, GrantedUpload(store_id, plan)), plan.part_bytes

    async def sign(
        self, media_id: MediaId, upload: GrantedUpload, numbers: Sequence[int], now: datetime | None = None
    ) -> tuple[list[SignedPart], datetime]:
        """Return these parts with a URL each, and when the URLs expire.

        Without ``numbers``: all parts, with URLs only for those that are not stored. Raises `NoSuchUpload`.
        """
        now = now or utc_now()
        expires_at = min(now + self._url_ttl, self.expires_at(media_id))
        expires_s = int((expires_at - now).total_seconds())
        key = keys.incoming(media_id)
        if expires_s < 1:
            raise NoSuchUpload(str(media_id))
        self.require()  # uploads in parts may have been allowed when the upload began
        try:
            stored = await self._uploads.parts(key, upload.store_id)
        except UploadMissing:
            raise NoSuchUpload(str(media_id)) from None
        wanted = [upload.plan.part(number) for number in numbers] or upload.plan.parts()
        signed = []
        for part in wanted:
            found = _whole(part, stored)
            put = None
            if numbers or found is None:
                sign = self._store.get().uploads.part
                put = sign(key, upload.store_id, part.number, part.size_bytes, expires_s=expires_s, now=now)
            signed.append(SignedPart(part, found, put))
        return signed, expires_at

    async def join(self, media_id: MediaId, upload: GrantedUpload) -> None:
        """Join the parts into one object. Raises `PartsMissing`.

        Does nothing if there is no such upload, because it was completed before, or aborted.
        """
        key = keys.incoming(media_id)
        try:
            stored = await self._uploads.parts(key, upload.store_id)
            missing = [part.number for part in upload.plan.parts() if _whole(part, stored) is None]
            if missing:
                raise PartsMissing(missing, upload.plan.count)
            etags = {number: stored[number].etag for number in range(1, upload.plan.count + 1)}
            await self._uploads.complete(key, upload.store_id, etags)
        except UploadMissing:
            return

    async def abort(self, media_id: MediaId, upload: GrantedUpload) -> bool:
        """Remove an upload and its parts. Return whether there was an upload. Raises `AlreadyCompleted`."""
        key = keys.incoming(media_id)
        try:
            await self._uploads.abort(key, upload.store_id)
        except UploadMissing:
            store = self._store.get()
            if await store.exists(key) or await store.exists(keys.original(media_id)):
                raise AlreadyCompleted(str(media_id)) from None
            return False
        return True

    async def _seal(self, media_id: MediaId, granted: GrantedUpload) -> str:
        """Return the id of an upload."""
        text = f"{granted.plan.size_bytes}.{granted.plan.part_bytes}.{granted.store_id}".encode()
        key = self._key or await self._read_key()
        return _in_characters(_mac(key, media_id, text) + text)

    async def open(self, media_id: MediaId, upload_id: str) -> GrantedUpload:
        """Read an id. Raises `InvalidUploadId`."""
        if len(upload_id) > _MAX_CHARACTERS:
            raise InvalidUploadId("too long")
        try:
            sealed = base64.b64decode(upload_id + "=" * (-len(upload_id) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidUploadId("not an upload id") from None
        if _in_characters(sealed) != upload_id:  # base64 ignores the last bits
            raise InvalidUploadId("not an upload id")
        mac, text = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not await self._is_ours(media_id, mac, text):
            raise InvalidUploadId("belongs to another upload, or is damaged")
        return UPLOAD_ID.read(text, str(media_id))

    async def _is_ours(self, media_id: MediaId, mac: bytes, text: bytes) -> bool:
        key = self._key or await self._read_key()
        if hmac.compare_digest(mac, _mac(key, media_id, text)):
            return True
        if trio.current_time() - self._read_at < _READ_AGAIN_S:
            return False
        # Another replica may have another key: an operator removed the object, or two replicas created it at the same
        # time in a store without conditional writes.
        return hmac.compare_digest(mac, _mac(await self._read_key(), media_id, text))

    async def _read_key(self) -> bytes:
        asked_at = trio.current_time()
        async with self._reading:
            if self._key is None or self._read_at < asked_at:
                self._key = await read_secret(self._store.get(), keys.UPLOAD_SECRET)
                self._read_at = trio.current_time()
            return self._key

    @property
    def _uploads(self) -> MultipartUploads:
        return self._store.get().multipart


def _whole(part: Part, stored: Mapping[int, StoredPart]) -> StoredPart | None:
    """Return the stored part; None if it is missing, or has another length."""
    found = stored.get(part.number)
    return found if found is not None and found.size_bytes == part.size_bytes else None


def _mac(key: bytes, media_id: MediaId, text: bytes) -> bytes:
    return hmac.digest(key, f"{media_id}\n".encode() + text, "sha256")[:_MAC_BYTES]


def _in_characters(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
