"""Objects: what workers and the origin rely on when they read, write, copy and list."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable
from typing import Final

from avion_media.backends.store import patch_copy
from avion_media.backends.store.contents import find
from avion_media.common import keys
from avion_media.common.errors import PreconditionFailed
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from avion_media.operations.doctor.trial import TYPE, Trial

OBJECTS: Final = Checks[Trial](Area.STORE)
_MEBIBYTE: Final = 1 << 20
_LARGE_BYTES: Final = 11 * _MEBIBYTE + 123  # three parts of a multipart copy, and beyond any store's first stripe
_LARGE: Final = "large"
_BLURHASH: Final = "LEHV6nWB2y#$%*+,-.:;=?@[]^_{|}~"  # all the punctuation that facts about a media item may have
_REPLACED: Final = "a client can swap an upload between validation and publication"


@OBJECTS.add("returns metadata unchanged", "type, size and BlurHash are lost")
async def _metadata(trial: Trial) -> None:
    key = trial.key("metadata")
    await trial.store.put(key, b"x", content_type="image/webp", metadata={"blurhash": _BLURHASH})
    info = await trial.store.head(key)
    if info.metadata.get("blurhash") != _BLURHASH or info.content_type != "image/webp":
        raise CheckFailed(f"returned {info.content_type} {info.metadata}")


@OBJECTS.add("serves byte ranges correctly", "visitors and workers get wrong bytes")
async def _ranges(trial: Trial) -> None:
    await _put_large(trial)
    for first, length in ((0, 10), (4 * _MEBIBYTE - 5, 10), (9 * _MEBIBYTE + 1, 1000), (_LARGE_BYTES - 7, 7)):
        got = await trial.store.read(trial.key(_LARGE), first, length, max_bytes=length)
        if got != _large()[first : first + length]:
            raise CheckFailed(f"wrong bytes at offset {first}")


@OBJECTS.add("honours If-Match on reads", _REPLACED)
async def _if_match(trial: Trial) -> None:
    etag = await trial.put("if-match", b"first")
    await trial.put("if-match", b"second")
    read = trial.store.read(trial.key("if-match"), max_bytes=10, if_match=etag)
    await _prevented(read, "the store returned the new version for the old one")


@OBJECTS.add("honours If-None-Match on writes", "two workers can publish the same item")
async def _only_once(trial: Trial) -> None:
    await trial.put("once", b"first")
    second = trial.store.put(trial.key("once"), b"second", content_type=TYPE, only_if_absent=True)
    await _prevented(second, "the object was replaced")


@OBJECTS.add("honours If-Match on writes", "two processes can change one block at a time")
async def _write_if_match(trial: Trial) -> None:
    key, etag = trial.key("written"), await trial.put("written", b"first")
    await trial.store.put(key, b"second", content_type=TYPE, if_match=etag)
    third = trial.store.put(key, b"third", content_type=TYPE, if_match=etag)
    await _prevented(third, "the new version was replaced")


@OBJECTS.add("honours If-Match on copies", _REPLACED)
async def _copy_if_match(trial: Trial) -> None:
    key, etag = trial.key("copied"), await trial.put("copied", b"first")
    await trial.store.copy(key, f"{key}-1", content_type=TYPE, source_etag=etag)
    await trial.put("copied", b"second")
    copy = trial.store.copy(key, f"{key}-2", content_type=TYPE, source_etag=etag)
    await _prevented(copy, "the store copied the new version for the old one")


@OBJECTS.add("patches large objects correctly", "private data cannot be removed from large videos")
async def _patched(trial: Trial) -> None:
    await _patch(trial, await _put_large(trial))
    if await trial.store.read(trial.key("patched"), max_bytes=_LARGE_BYTES) != b"\0" * 16 + _large()[16:]:
        raise CheckFailed("the copy has other bytes")


@OBJECTS.add("honours If-Match on copies of parts", _REPLACED)
async def _patched_if_match(trial: Trial) -> None:
    await _put_large(trial)
    await _prevented(_patch(trial, "0" * 32), "parts of another version were copied")


@OBJECTS.add("lists in key order and resumes", "the sweep misses objects")
async def _listing(trial: Trial) -> None:
    names = [f"list/{name}" for name in ("a", "b", "c")]
    for name in names:
        await trial.put(name)
    prefix, keys = trial.key("list/"), [trial.key(name) for name in names]
    listed = [each.key async for page in trial.store.list(prefix, page_size=2) for each in page]
    resumed = [each.key async for page in trial.store.list(prefix, start_after=keys[0]) for each in page]
    if (listed, resumed) != (keys, keys[1:]):
        raise CheckFailed(f"listed {listed}, then {resumed}")


@OBJECTS.add("deletes objects", "deleted media stay")
async def _deleted(trial: Trial) -> None:
    names = ("deleted-1", "deleted-2")
    for name in names:
        await trial.put(name)
    await trial.store.delete([trial.key(name) for name in names])
    for name in names:
        if await trial.stored(name) is not None:
            raise CheckFailed("it can still be read")


@OBJECTS.add("serves presigned downloads", "HTTP__MODE=redirect does not work", CheckStatus.WARNING)
async def _presigned_get(trial: Trial) -> None:
    await trial.put("download", b"to be read")
    response = await trial.http.get(trial.download_url("download"))
    if (response.status_code, response.content) != (200, b"to be read"):
        raise CheckFailed(f"the store responded {response.status_code}")


@OBJECTS.add(
    "keeps accepted uploads until their tasks end (lifecycle rules)",
    "uploads that wait for a worker are lost; run `avion-media init`, and change or remove the other rules",
)
async def _no_early_expiration(trial: Trial) -> None:
    early = await trial.store.early_expirations(keys.INCOMING_PREFIX, trial.lives.incoming_s)
    if early:
        raise CheckFailed(f"{', '.join(early)}; {trial.lives.incoming_s / 86400:.0f} are needed")


@OBJECTS.add(
    "keeps evidence until its records say (lifecycle rules)",
    "evidence is lost before its time, and also while it is held; run `avion-media init`, and change the other rules",
)
async def _no_expiring_evidence(trial: Trial) -> None:
    early = await trial.store.early_expirations(keys.QUARANTINE_PREFIX, math.inf)
    if early:
        raise CheckFailed(f"{', '.join(early)}; none may remove objects of {keys.QUARANTINE_PREFIX}")


@OBJECTS.add(
    "has lifecycle rules for incoming/",
    "abandoned uploads stay until the next sweep; run `avion-media init`",
    CheckStatus.WARNING,
)
async def _lifecycle(trial: Trial) -> None:
    missing = await trial.store.missing_lifecycle_rules(trial.lives)
    if missing:
        raise CheckFailed(f"missing: {', '.join(missing)}")


async def _prevented(request: Awaitable[object], otherwise: str) -> None:
    """Make a request whose condition does not hold. Raises `CheckFailed` if the store carries it out."""
    try:
        await request
    except PreconditionFailed:
        return
    raise CheckFailed(otherwise)


def _large() -> bytes:
    return random.Random(1).randbytes(_LARGE_BYTES)


async def _put_large(trial: Trial) -> str:
    """The large object, once; its etag."""
    stored = await find(trial.store, trial.key(_LARGE))
    return await trial.put(_LARGE, _large()) if stored is None else stored.etag


async def _patch(trial: Trial, etag: str) -> None:
    await patch_copy(
        trial.store,
        trial.key(_LARGE),
        trial.key("patched"),
        size_bytes=_LARGE_BYTES,
        source_etag=etag,
        patches=[(0, b"\0" * 16)],
        content_type=TYPE,
    )
