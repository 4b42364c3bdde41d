"""Objects: what workers and the origin rely on when they read, write, copy and list."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial

import httpx

from avion_media.backends.store import Lives, ObjectStore, patch_copy
from avion_media.common.errors import MediaError, ObjectMissing, PreconditionFailed
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus

_MEBIBYTE = 1 << 20
_LARGE_BYTES = 11 * _MEBIBYTE + 123  # three parts of a multipart copy, and beyond any store's first stripe
_TYPE = "application/octet-stream"
_BLURHASH = "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"  # all the punctuation that facts about a media item may have


class ObjectChecks:
    """What the workers and the origin rely on. ``folder`` is a key prefix of this examination alone.

    ``lives``: how long the lifecycle rules must keep objects.
    """

    def __init__(self, store: ObjectStore, http: httpx.AsyncClient, folder: str, *, lives: Lives) -> None:
        self._lives = lives
        self._store = store
        self._http = http
        self._folder = folder
        self._large = random.Random(1).randbytes(_LARGE_BYTES)

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""

        check = partial(Check, Area.STORE)
        wrong_bytes = "visitors and workers get wrong bytes"
        replaced = "a client can swap an upload between validation and publication"
        return [
            check("returns metadata unchanged", self._metadata, "type, size and BlurHash are lost"),
            check("serves byte ranges correctly", self._ranges, wrong_bytes),
            check("honours If-Match on reads", self._if_match, replaced),
            check("honours If-None-Match on writes", self._only_once, "two workers can publish the same item"),
            check("honours If-Match on writes", self._write_if_match, "two processes can change one block at a time"),
            check("honours If-Match on copies", self._copy_if_match, replaced),
            check("patches large objects correctly", self._patched, "private data cannot be removed from large videos"),
            check("honours If-Match on copies of parts", self._patched_if_match, replaced),
            check("lists in key order and resumes", self._listing, "the sweep misses objects"),
            check("deletes objects", self._deleted, "deleted media stay"),
            check(
                "serves presigned downloads",
                self._presigned_get,
                "HTTP__MODE=redirect does not work",
                CheckStatus.WARNING,
            ),
            check(
                "keeps accepted uploads until their tasks end (lifecycle rules)",
                self._no_early_expiration,
                "uploads that wait for a worker are lost; run `avion-media init`, and change or remove the other rules",
            ),
            check(
                "has lifecycle rules for incoming/",
                self._lifecycle,
                "abandoned uploads stay until the next sweep; run `avion-media init`",
                CheckStatus.WARNING,
            ),
        ]

    async def _metadata(self) -> str:
        key = f"{self._folder}metadata"
        await self._store.put(key, b"x", content_type="image/webp", metadata={"blurhash": _BLURHASH})
        info = await self._store.head(key)
        if info.metadata.get("blurhash") != _BLURHASH or info.content_type != "image/webp":
            raise CheckFailed(f"returned {info.content_type} {info.metadata}")
        return ""

    async def _ranges(self) -> str:
        await self._put_large()
        for first, length in ((0, 10), (4 * _MEBIBYTE - 5, 10), (9 * _MEBIBYTE + 1, 1000), (_LARGE_BYTES - 7, 7)):
            got = await self._store.read(self._source, first, length, max_bytes=length)
            if got != self._large[first : first + length]:
                raise CheckFailed(f"wrong bytes at offset {first}")
        return ""

    async def _if_match(self) -> str:
        key = f"{self._folder}if-match"
        etag = await self._store.put(key, b"first", content_type=_TYPE)
        await self._store.put(key, b"second", content_type=_TYPE)
        try:
            await self._store.read(key, max_bytes=10, if_match=etag)
        except PreconditionFailed:
            return ""
        raise CheckFailed("the store returned the new version for the old one")

    async def _only_once(self) -> str:
        key = f"{self._folder}once"
        await self._store.put(key, b"first", content_type=_TYPE, only_if_absent=True)
        try:
            await self._store.put(key, b"second", content_type=_TYPE, only_if_absent=True)
        except PreconditionFailed:
            return ""
        raise CheckFailed("the object was replaced")

    async def _write_if_match(self) -> str:
        key = f"{self._folder}written"
        etag = await self._store.put(key, b"first", content_type=_TYPE)
        await self._store.put(key, b"second", content_type=_TYPE, if_match=etag)
        try:
            await self._store.put(key, b"third", content_type=_TYPE, if_match=etag)
        except PreconditionFailed:
            return ""
        raise CheckFailed("the new version was replaced")

    async def _copy_if_match(self) -> str:
        key = f"{self._folder}copied"
        etag = await self._store.put(key, b"first", content_type=_TYPE)
        await self._store.copy(key, f"{key}-1", content_type=_TYPE, source_etag=etag)
        await self._store.put(key, b"second", content_type=_TYPE)
        try:
            await self._store.copy(key, f"{key}-2", content_type=_TYPE, source_etag=etag)
        except PreconditionFailed:
            return ""
        raise CheckFailed("the store copied the new version for the old one")

    async def _patched(self) -> str:
        etag = await self._put_large()
        await self._patch(etag)
        expected = b"\0" * 16 + self._large[16:]
        if await self._store.read(f"{self._folder}patched", max_bytes=_LARGE_BYTES) != expected:
            raise CheckFailed("the copy has other bytes")
        return ""

    async def _patched_if_match(self) -> str:
        await self._put_large()
        try:
            await self._patch("0" * 32)
        except PreconditionFailed:
            return ""
        raise CheckFailed("parts of another version were copied")

    async def _patch(self, etag: str) -> None:
        await patch_copy(
            self._store,
            self._source,
            f"{self._folder}patched",
            size_bytes=_LARGE_BYTES,
            source_etag=etag,
            patches=[(0, b"\0" * 16)],
            content_type=_TYPE,
        )

    async def _listing(self) -> str:
        prefix = f"{self._folder}list/"
        keys = [f"{prefix}{name}" for name in ("a", "b", "c")]
        for key in keys:
            await self._store.put(key, b"x", content_type=_TYPE)
        listed = [each.key async for page in self._store.list(prefix, page_size=2) for each in page]
        resumed = [each.key async for page in self._store.list(prefix, start_after=keys[0]) for each in page]
        if (listed, resumed) != (keys, keys[1:]):
            raise CheckFailed(f"listed {listed}, then {resumed}")
        return ""

    async def _deleted(self) -> str:
        keys = [f"{self._folder}deleted-{number}" for number in (1, 2)]
        for key in keys:
            await self._store.put(key, b"x", content_type=_TYPE)
        await self._store.delete(keys)
        for key in keys:
            try:
                await self._store.head(key)
            except ObjectMissing:
                continue
            raise CheckFailed("it can still be read")
        return ""

    async def _presigned_get(self) -> str:
        key = f"{self._folder}download"
        await self._store.put(key, b"to be read", content_type=_TYPE)
        response = await self._http.get(self._store.downloads.get(key, expires_s=60, now=datetime.now(UTC)))
        if (response.status_code, response.content) != (200, b"to be read"):
            raise CheckFailed(f"the store responded {response.status_code}")
        return ""

    async def _lifecycle(self) -> str:
        missing = await self._store.missing_lifecycle_rules(self._lives)
        if missing:
            raise CheckFailed(f"missing: {', '.join(missing)}")
        return ""

    async def _no_early_expiration(self) -> str:
        early = await self._store.early_expirations(self._lives.incoming_s)
        if early:
            raise CheckFailed(f"{', '.join(early)}; {self._lives.incoming_s / 86400:.0f} are needed")
        return ""

    @property
    def _source(self) -> str:
        return f"{self._folder}large"

    async def _put_large(self) -> str:
        """The large object, once; its etag."""
        try:
            info = await self._store.head(self._source)
        except ObjectMissing:
            return await self._store.put(self._source, self._large, content_type=_TYPE)
        return info.etag

    async def clean(self) -> list[str]:
        """Remove everything below ``folder``; the keys that could not be removed."""
        keys: list[str] = []
        try:
            keys = [each.key async for page in self._store.list(self._folder) for each in page]
            await self._store.delete(keys)
        except MediaError:
            return keys or [f"{self._folder}*"]
        return []
