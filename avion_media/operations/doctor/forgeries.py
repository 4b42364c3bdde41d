"""Forged uploads: what a client gains by adding headers to the PUT of its upload URL.

Some stores obey ``x-amz-`` headers that the URL does not sign. Each attack is sent as an attacker would send it, once
with all the headers that were granted and once without those that only guard; what matters is what it achieved.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import httpx

from avion_media.backends.settings import S3Config
from avion_media.backends.store import examine_part_urls, upload_guard
from avion_media.common.errors import ObjectMissing
from avion_media.common.settings import PREFIX
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.operations.doctor.clients import BODY, TYPE, UploadClient, describe

_ALL_USERS = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'
_SECRET = b"an object that the client was not given"
_CUSTOMER_KEY = b"avion-media doctor, a client key"  # 32 bytes
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


class ForgeryChecks:
    """What `RequestMediaUpload` relies on if clients are not trusted."""

    def __init__(self, client: UploadClient, config: S3Config) -> None:
        self._client = client
        self._config = config
        self._number = 0

    def accepted(self) -> Check:
        """Return the check that the store accepts presigned uploads. It names settings that the store would accept."""
        check = "accepts presigned uploads"
        return Check(Area.STORE, check, self._accepted, "clients cannot upload")

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""
        check = partial(Check, Area.STORE)
        return [
            check(
                "rejects URLs with a changed signature",
                self._signature,
                "this store checks no signature, like that of `avion-media dev`; clients must never reach it",
            ),
            check(
                "rejects uploads that copy another object (x-amz-copy-source)",
                self._copy,
                f"a client can read every object that the key of its upload URL can read: other buckets, raw uploads of"
                f" others, deleted media; {PUT_ONLY}",
            ),
            check(
                "rejects uploads that are opened to others (x-amz-acl, x-amz-grant-…)",
                self._opened,
                "a client can make its raw upload public, GPS position included; set the bucket's public-access block"
                " (`avion-media init` does, if the store has one)",
            ),
            check(
                "rejects uploads with a lock (object lock, legal hold)",
                self._locked,
                "clients can fill the store with objects that cannot be deleted; use a bucket without object lock",
            ),
            check(
                "rejects uploads encrypted with a client's key",
                self._encrypted,
                "a client can make its own upload unreadable, which then counts as missing; this has no other effect",
                CheckStatus.WARNING,
            ),
            check(
                "rejects parts that copy another object",
                self._part_urls,
                "uploads in parts are off: clients upload large files in one request, and start again if it fails",
                CheckStatus.WARNING,
            ),
            *(
                check(
                    f"does not copy what a client adds to its upload: {each.what}",
                    partial(self._stays, each),
                    "it stays on originals that the store copies (large videos); bucket rules must not depend on it",
                    CheckStatus.WARNING,
                )
                for each in _ADDITIONS
            ),
        ]

    async def _accepted(self) -> str:
        granted = self._client.granted("accepted")
        response = await self._client.send(granted)
        if response.status_code != 200:
            raise CheckFailed(f"the store responded {describe(response)}{await self._advice(_any)}")
        info = await self._client.store.head(f"{self._client.folder}accepted")
        if info.size_bytes != len(BODY):
            raise CheckFailed(f"stored {info.size_bytes} of {len(BODY)} bytes")
        return ""

    async def _signature(self) -> str:
        granted = self._client.granted("signature")
        changed = granted.url[:-1] + ("1" if granted.url.endswith("0") else "0")
        return await self._client.refused("signature", granted=replace(granted, url=changed))

    async def _copy(self) -> str:
        return await self._prevented(self._copied)

    async def _opened(self) -> str:
        return await self._prevented(self._read_by_anybody)

    async def _prevented(self, forged: Callable[[Mapping[str, str]], Awaitable[str]]) -> str:
        """Run an attack. ``forged`` tries it on URLs with given guards, and returns how it succeeded, or nothing."""
        achieved = await forged(self._guard())
        if achieved:

            async def holds(guard: Mapping[str, str]) -> bool:
                return not await forged(guard)

            raise CheckFailed(f"{achieved}{await self._advice(holds)}")
        return ""

    async def _copied(self, guard: Mapping[str, str]) -> str:
        source = f"{self._client.folder}secret"
        await self._client.store.put(source, _SECRET, content_type=TYPE)
        copied = {"x-amz-copy-source": f"/{self._config.bucket}/{source}"}
        for added in (copied, {**copied, "x-amz-metadata-directive": "REPLACE"}):
            for name, _ in await self._sent("copy", added, guard):
                if await self._stored(name) == _SECRET:
                    return "the upload contained the other object"
        return ""

    async def _read_by_anybody(self, guard: Mapping[str, str]) -> str:
        for added in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": _ALL_USERS}):
            for name, _ in await self._sent("opened", added, guard):
                url = self._client.granted(name).url.partition("?")[0]
                if (await self._client.http.get(url)).status_code == 200:
                    return f"{next(iter(added))} made it public"
        return ""

    async def _locked(self) -> str:
        until = (datetime.now(UTC) + timedelta(seconds=_LOCKED_S)).strftime("%Y-%m-%dT%H:%M:%SZ")
        retention = {"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": until}
        for added in (retention, {"x-amz-object-lock-legal-hold": "ON"}):
            for name, _ in await self._sent("locked", added, self._guard()):
                if next(iter(added)) in await self._headers_of(name):
                    raise CheckFailed(f"{next(iter(added))} was accepted")
        return ""

    async def _encrypted(self) -> str:
        customer = "x-amz-server-side-encryption-customer"
        added = {
            f"{customer}-algorithm": "AES256",
            f"{customer}-key": base64.b64encode(_CUSTOMER_KEY).decode(),
            f"{customer}-key-md5": base64.b64encode(hashlib.md5(_CUSTOMER_KEY).digest()).decode(),
        }
        for name, response in await self._sent("encrypted", added, self._guard()):
            if response.status_code == 200 and await self._stored(name) is None:
                raise CheckFailed("accepted, and the service cannot read it")
        return ""

    async def _part_urls(self) -> str:
        refusal = await examine_part_urls(self._client.store)
        if refusal:
            raise CheckFailed(refusal)
        return ""

    async def _stays(self, addition: _Addition) -> str:
        """Check that a header added to an upload is not on a copy that the service makes."""
        found = ""
        for name, response in await self._sent("added", addition.sent, self._guard()):
            found = found or describe(response)
            if response.status_code != 200:
                continue
            found = "accepted; not on copies, and removed with the upload"
            key = f"{self._client.folder}{name}"
            await self._client.store.copy(key, f"{key}-copied", content_type=TYPE)
            headers = await self._headers_of(f"{name}-copied")
            kept = [each for each, value in addition.shown.items() if each in headers and value in headers[each]]
            if kept:
                raise CheckFailed(f"a copy of the upload has {', '.join(kept)}")
        return found

    async def _sent(
        self, name: str, added: Mapping[str, str], guard: Mapping[str, str]
    ) -> list[tuple[str, httpx.Response]]:
        """Send the headers in both ways, each to its own key. Return the names of the keys, and the responses."""
        answers = []
        for left_out in ((), tuple(guard)):
            self._number += 1
            unique = f"{name}-{self._number}"
            granted = self._client.granted(unique, guard=guard)
            headers = {each: value for each, value in granted.headers.items() if each not in left_out}
            with suppress(httpx.RemoteProtocolError):  # cut off: a refusal too
                response = await self._client.http.put(granted.url, content=BODY, headers={**headers, **added})
                answers.append((unique, response))
        return answers

    async def _stored(self, name: str) -> bytes | None:
        try:
            return await self._client.store.read(f"{self._client.folder}{name}", max_bytes=1 << 16)
        except ObjectMissing:
            return None

    async def _headers_of(self, name: str) -> httpx.Headers:
        key, now = f"{self._client.folder}{name}", datetime.now(UTC)
        url = self._client.store.downloads.get(key, expires_s=60, now=now)
        return (await self._client.http.get(url)).headers

    def _guard(self) -> dict[str, str]:
        return upload_guard(self._config.upload_acl, deny_copy=self._config.upload_deny_copy)

    async def _advice(self, holds: _Holds) -> str:
        """Return, as a clause, other settings that the store accepts and that prevent the attack (``holds``)."""
        present = (self._config.upload_deny_copy, self._config.upload_acl)
        for deny_copy, acl in ((deny, acl) for deny in (True, False) for acl in _ACLS):
            if (deny_copy, acl) == present:
                continue
            guard = upload_guard(acl, deny_copy=deny_copy)
            self._number += 1
            plain = await self._client.send(self._client.granted(f"plain-{self._number}", guard=guard))
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
