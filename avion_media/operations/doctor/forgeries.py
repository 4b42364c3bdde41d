"""Forged uploads: what a client gains by adding headers to the PUT of its upload URL.

Some stores obey ``x-amz-`` headers that the URL does not sign. Each attack is sent as an attacker would send it, once
with all the headers that were granted and once without those that only guard; what matters is what it achieved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import httpx

from avion_media.backends.store import examine_part_urls, upload_guard
from avion_media.common.settings import PREFIX
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from avion_media.operations.doctor.trial import BODY, TYPE, Trial, describe

_ALL_USERS = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'
_SECRET = b"an object that the client was not given"
_LOCKED_S = 60  # then what this examination may have locked can be removed
_ACLS = ("bucket-owner-full-control", "private", "")
_Holds = Callable[[Mapping[str, str]], Awaitable[bool]]

PUT_ONLY: Final = "sign upload URLs with keys that can only write (docs/how-to/sign-with-put-only-keys.md)"


@dataclass(frozen=True, slots=True)
class _Addition:
    """Headers that a client can add to an upload, and the headers that would show them on a copy."""

    what: str
    sent: dict[str, str]
    shown: dict[str, str]  # name to value; any value when empty


_ADDITIONS = (
    _Addition("metadata", {"x-amz-meta-forged": "1"}, {"x-amz-meta-forged": ""}),
    _Addition("tags", {"x-amz-tagging": "forged=1"}, {"x-amz-tagging-count": ""}),
    _Addition(
        "a website redirect",
        {"x-amz-website-redirect-location": "https://forged.example/"},
        {"x-amz-website-redirect-location": ""},
    ),
    _Addition(
        "a storage class", {"x-amz-storage-class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}
    ),
    _Addition(
        "a cache or encoding header",
        {"Cache-Control": "max-age=1", "Content-Encoding": "forged"},
        {"cache-control": "", "content-encoding": ""},
    ),
)  # fmt: skip


ACCEPTED: Final = Checks[Trial](Area.STORE)
FORGERIES: Final = Checks[Trial](Area.STORE)


@ACCEPTED.add("accepts presigned uploads", "clients cannot upload")
async def _accepted(trial: Trial) -> None:
    """It names settings that the store would accept."""
    response = await trial.send(trial.granted("accepted"))
    if response.status_code != 200:
        raise CheckFailed(f"the store responded {describe(response)}{await _advice(trial, _any)}")
    info = await trial.store.head(trial.key("accepted"))
    if info.size_bytes != len(BODY):
        raise CheckFailed(f"stored {info.size_bytes} of {len(BODY)} bytes")


@FORGERIES.add(
    "rejects URLs with a changed signature",
    "this store checks no signature, like that of `avion-media dev`; clients must never reach it",
)
async def _signature(trial: Trial) -> str:
    granted = trial.granted("signature")
    changed = granted.url[:-1] + ("1" if granted.url.endswith("0") else "0")
    return await trial.refused("signature", granted=replace(granted, url=changed))


@FORGERIES.add(
    "rejects uploads that copy another object (x-amz-copy-source)",
    "a client can read every object that the key of its upload URL can read: other buckets, raw uploads of others,"
    f" deleted media; {PUT_ONLY}",
)
async def _copy(trial: Trial) -> None:
    await _prevented(trial, partial(_copied, trial))


@FORGERIES.add(
    "rejects uploads that are opened to others (x-amz-acl, x-amz-grant-…)",
    "a client can make its raw upload public, GPS position included; set the bucket's public-access block"
    " (`avion-media init` does, if the store has one)",
)
async def _opened(trial: Trial) -> None:
    await _prevented(trial, partial(_read_by_anybody, trial))


@FORGERIES.add(
    "rejects uploads with a lock (object lock, legal hold)",
    "clients can fill the store with objects that cannot be deleted; use a bucket without object lock",
)
async def _locked(trial: Trial) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=_LOCKED_S)).strftime("%Y-%m-%dT%H:%M:%SZ")
    retention = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": until}
    for added in (retention, {"x-amz-object-lock-legal-hold": "ON"}):
        for name, _ in await _sent(trial, "locked", added):
            if next(iter(added)) in await _headers_of(trial, name):
                raise CheckFailed(f"{next(iter(added))} was accepted")


@FORGERIES.add(
    "rejects parts that copy another object",
    "uploads in parts are off: clients upload large files in one request, and start again if it fails",
    CheckStatus.WARNING,
)
async def _part_urls(trial: Trial) -> None:
    refusal = await examine_part_urls(trial.store)
    if refusal:
        raise CheckFailed(refusal)


async def _stays(addition: _Addition, trial: Trial) -> str:
    """Check that a header added to an upload is not on a copy that the service makes."""
    found = ""
    for name, response in await _sent(trial, "added", addition.sent):
        found = found or describe(response)
        if response.status_code != 200:
            continue
        found = "accepted; not on copies, and removed with the upload"
        await trial.store.copy(trial.key(name), trial.key(f"{name}-copied"), content_type=TYPE)
        headers = await _headers_of(trial, f"{name}-copied")
        kept = [each for each, value in addition.shown.items() if each in headers and value in headers[each]]
        if kept:
            raise CheckFailed(f"a copy of the upload has {', '.join(kept)}")
    return found


for _each in _ADDITIONS:
    FORGERIES.add(
        f"does not copy what a client adds to its upload: {_each.what}",
        "it stays on originals that the store copies (large videos); bucket rules must not depend on it",
        CheckStatus.WARNING,
    )(partial(_stays, _each))


async def _prevented(trial: Trial, forged: Callable[[Mapping[str, str]], Awaitable[str]]) -> None:
    """Run an attack. ``forged`` tries it on URLs with given guards, and returns how it succeeded, or nothing."""
    achieved = await forged(_guard(trial))
    if achieved:

        async def holds(guard: Mapping[str, str]) -> bool:
            return not await forged(guard)

        raise CheckFailed(f"{achieved}{await _advice(trial, holds)}")


async def _copied(trial: Trial, guard: Mapping[str, str]) -> str:
    await trial.put("secret", _SECRET)
    copied = {"x-amz-copy-source": f"/{trial.config.bucket}/{trial.key('secret')}"}
    for added in (copied, {**copied, "x-amz-metadata-directive": "REPLACE"}):
        for name, _ in await _sent(trial, "copy", added, guard):
            if await trial.stored(name) == _SECRET:
                return "the upload contained the other object"
    return ""


async def _read_by_anybody(trial: Trial, guard: Mapping[str, str]) -> str:
    for added in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": _ALL_USERS}):
        for name, _ in await _sent(trial, "opened", added, guard):
            if (await trial.http.get(trial.plain_url(name))).status_code == 200:
                return f"{next(iter(added))} made it public"
    return ""


async def _sent(
    trial: Trial, name: str, added: Mapping[str, str], guard: Mapping[str, str] | None = None
) -> list[tuple[str, httpx.Response]]:
    """Send the headers in both ways, each to its own key. Return the names of the keys, and the responses."""
    guard = _guard(trial) if guard is None else guard
    answers = []
    for left_out in ((), tuple(guard)):
        unique = trial.unique(name)
        granted = trial.granted(unique, guard=guard)
        headers = {each: value for each, value in granted.headers.items() if each not in left_out}
        with suppress(httpx.RemoteProtocolError):  # cut off: a refusal too
            response = await trial.http.put(granted.url, content=BODY, headers={**headers, **added})
            answers.append((unique, response))
    return answers


async def _headers_of(trial: Trial, name: str) -> httpx.Headers:
    return (await trial.http.get(trial.download_url(name))).headers


def _guard(trial: Trial) -> dict[str, str]:
    return upload_guard(trial.config.upload_acl, deny_copy=trial.config.upload_deny_copy)


async def _advice(trial: Trial, holds: _Holds) -> str:
    """Return, as a clause, other settings that the store accepts and that prevent the attack (``holds``)."""
    present = (trial.config.upload_deny_copy, trial.config.upload_acl)
    for deny_copy, acl in ((deny, acl) for deny in (True, False) for acl in _ACLS):
        if (deny_copy, acl) == present:
            continue
        guard = upload_guard(acl, deny_copy=deny_copy)
        plain = await trial.send(trial.granted(trial.unique("plain"), guard=guard))
        if plain.status_code == 200 and await holds(guard):
            changed = {
                "UPLOAD_DENY_COPY": str(deny_copy).lower() if deny_copy != present[0] else None,
                "UPLOAD_ACL": acl if acl != present[1] else None,
            }
            settings = [f"{PREFIX}S3__{name}={value}" for name, value in changed.items() if value is not None]
            return f"; set {' and '.join(settings)}"
    return ""


async def _any(_guard: Mapping[str, str]) -> bool:
    return True
