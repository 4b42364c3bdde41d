"""Tests whether clients may have URLs for parts. Nothing but a test shows it.

Some stores obey ``x-amz-copy-source`` on the URL of a part although the URL does not sign it, and ignore the condition
that the URL signs (Ceph 18: CVE-2026-54330). A client with such a URL could read any object that the signing key can
read. Put-only keys prevent that, and so does a store that refuses unsigned headers. Ceph 18 copies only if the request
has no length of its own, and these URLs sign a length. A store that checks no signatures, like that of `avion-media
dev`, protects nothing anyway.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import trio

from avion_media.backends.store.store import ObjectStore
from avion_media.common.clock import utc_now
from avion_media.common.errors import MediaError
from avion_media.common.keys import EXAMINED_PREFIX

_EXPIRES_S: Final = 60
_SECRET: Final = b"an object that the URL is not for"
_BODY: Final = b"what the URL of the part is for.."  # as long as the copy, because a store might compare the lengths
_TYPE: Final = "application/octet-stream"

COPIES: Final = (
    "a client could read other objects through the URL of a part: sign upload URLs with keys that can only write "
    "(docs/how-to/sign-with-put-only-keys.md)"
)
"""The reason shown if uploads in parts are off because the store obeys unsigned headers."""


async def examine_part_urls(store: ObjectStore) -> str:
    """Return why clients must not have URLs for parts; empty if they may have them.

    It uses the service's own address of the store, and writes below ``incoming/``. It removes that again, also after a
    cancel; after a crash the sweep or the lifecycle rules remove it. Raises `Unavailable`, `StoreRefused`.
    """
    return await _Examination(store).run()


class _Examination:
    """One upload with a part for each attempt; the first part is normal. The stored sizes show which body the store
    used."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._calls = store.calls
        self._source = f"{EXAMINED_PREFIX}{secrets.token_hex(8)}"
        self._key = f"{self._source}-in-parts"

    async def run(self) -> str:
        upload_id = ""
        await self._store.put(self._source, _SECRET, content_type=_TYPE)
        try:
            upload_id = await self._store.multipart.create(self._key, content_type=_TYPE)
            return await self._judge(upload_id)
        finally:
            # Shielded, so that a cancelled node does not leave it. Bounded like two requests.
            with trio.move_on_after(2 * self._calls.max_request_s, shield=True):
                with suppress(MediaError):
                    await self._store.delete([self._source])
                with suppress(MediaError):
                    if upload_id:
                        await self._store.multipart.abort(self._key, upload_id)

    async def _judge(self, upload_id: str) -> str:
        status = await self._send(upload_id, 1)
        if status != 200:
            return f"the object store does not accept a part by its URL (status {status})"
        copied = {"x-amz-copy-source": f"/{self._calls.bucket}/{self._source}"}
        ranged = {**copied, "x-amz-copy-source-range": f"bytes=0-{len(_SECRET) - 1}"}
        await self._send(upload_id, 2, copied)
        await self._send(upload_id, 3, ranged)
        await self._send(upload_id, 4, copied, without_guard=True)
        await self._send(upload_id, 5, copied, body=b"")
        parts = await self._store.multipart.parts(self._key, upload_id)
        if all(part == parts.get(1) for part in parts.values()):
            return ""
        return "" if await self._send(upload_id, 6, forged=True) == 200 else COPIES

    async def _send(
        self,
        upload_id: str,
        number: int,
        added: Mapping[str, str] | None = None,
        *,
        body: bytes = _BODY,
        without_guard: bool = False,
        forged: bool = False,
    ) -> int:
        """Send a part as a client could, and return the status."""
        signed = self._calls.clients.signers.uploads_inside.part(
            self._key,
            upload_id,
            number,
            len(_BODY),
            expires_s=_EXPIRES_S,
            now=utc_now(),
        )
        url = signed.url[:-1] + ("1" if signed.url.endswith("0") else "0") if forged else signed.url
        headers = {**({} if without_guard else signed.headers), **(added or {})}
        return await self._calls.send("UploadPart", lambda requests: requests.put_presigned(url, headers, body))
