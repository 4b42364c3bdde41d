"""The ids of uploads in parts that clients hold. They are opaque, and only this service can make one.

An id contains the store's own id and the granted size, because the store does not return the size before the upload is
complete. The length of each part follows from it. A MAC over both and the media id prevents forgery.

Decision: the key of the MAC is an object in the bucket (``secret/upload-ids``), which the first replica that needs it
creates. So every replica accepts the ids of all others, without configuration. Rejected: deriving the key from the
store's credentials (temporary ones differ between replicas and expire within hours), and a setting (one more secret to
create, distribute and rotate, for ids that live a day).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final

import trio

from avion_media.backends.store import ObjectStore, read_secret
from avion_media.common import keys
from avion_media.common.ids import MediaId
from avion_media.common.parts import PartPlan
from avion_media.common.records import CustomRecord
from avion_media.common.resources import ResourceSlot

_MAC_BYTES: Final = 16
_MAX_CHARACTERS: Final = 4096
_READ_AGAIN_S: Final = 60.0


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


class InvalidUploadId(ValueError):
    """This service did not make this id for this media item."""


class UploadIds:
    """Makes and reads ids. Every method can raise `Unavailable`."""

    def __init__(self, store: ResourceSlot[ObjectStore]) -> None:
        self._store = store
        self._key: bytes | None = None
        self._read_at = 0.0
        self._reading = trio.Lock()

    async def seal(self, media_id: MediaId, granted: GrantedUpload) -> str:
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


def _mac(key: bytes, media_id: MediaId, text: bytes) -> bytes:
    return hmac.digest(key, f"{media_id}\n".encode() + text, "sha256")[:_MAC_BYTES]


def _in_characters(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
