"""Presigned uploads: what the store must accept, and everything else that it must refuse.

The PUTs go where clients send theirs: to the store's public address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx

from avion_media.doctor.probe import Area, DoesNotHold, Probe, Verdict
from avion_media.domain.keys import INCOMING_PREFIX
from avion_media.store import ObjectStore, PresignedPut

_BODY = b"a small upload, made by avion-media doctor"
_TYPE = "image/png"
_MAX_SKEW_S = 60.0
_REFUSALS = frozenset({400, 401, 403, 411, 412, 501})  # stores differ; what matters is that nothing was taken


class UploadProbes:
    """What `RequestMediaUpload` relies on. ``folder`` is a key prefix of this examination alone."""

    def __init__(self, store: ObjectStore, http: httpx.AsyncClient, folder: str) -> None:
        self._store = store
        self._http = http
        self._folder = folder

    def all(self) -> list[Probe]:
        """In the order in which they are worth reading."""
        any_body = "clients can upload something else than what was checked and granted"
        probe = partial(Probe, Area.STORE)
        return [
            probe("a presigned upload is accepted", self._accepted, "nobody can upload anything"),
            probe("its clock agrees with ours", self._clock, "upload URLs expire too early or too late"),
            probe("an upload of another length is refused", self._other_length, any_body),
            probe("an upload of another type is refused", self._other_type, any_body),
            probe("an upload to another key is refused", self._other_key, "a URL for one medium writes any other"),
            probe("an upload of other bytes than the signed hash is refused", self._other_bytes, any_body),
            probe("an expired URL is refused", self._expired, "an upload URL works for ever"),
            probe("incoming/ cannot be read without a signature", self._private, "unchecked uploads are public"),
            probe(
                "browsers on any site may upload (CORS)",
                self._preflight,
                "uploads from browsers fail; `avion-media init` sets the rule",
                Verdict.WARNING,
            ),
        ]

    async def _accepted(self) -> str:
        response = await self._send(self._granted("accepted"))
        if response.status_code != 200:
            raise DoesNotHold(f"the store answered {_told(response)}")
        info = await self._store.head(f"{self._folder}accepted")
        if info.size_bytes != len(_BODY):
            raise DoesNotHold(f"it keeps {info.size_bytes} bytes of {len(_BODY)}")
        return ""

    async def _clock(self) -> str:
        response = await self._send(self._granted("clock"))
        told = response.headers.get("date", "")
        try:
            theirs = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError:
            return "it tells no date"
        skew_s = abs((theirs - datetime.now(UTC)).total_seconds())
        if skew_s > _MAX_SKEW_S:
            raise DoesNotHold(f"they are {skew_s:.0f} s apart")
        return f"{skew_s:.0f} s apart"

    async def _other_length(self) -> str:
        return await self._refused("length", body=_BODY + b"!")

    async def _other_type(self) -> str:
        return await self._refused("type", headers={"Content-Type": "text/html"})

    async def _other_key(self) -> str:
        granted = self._granted("key")
        elsewhere = granted.url.replace(f"{self._folder}key", f"{self._folder}elsewhere", 1)
        return await self._refused("elsewhere", granted=PresignedPut(elsewhere, granted.headers, granted.expires_at))

    async def _other_bytes(self) -> str:
        granted = self._granted("bytes", sha256=hashlib.sha256(_BODY).digest())
        return await self._refused("bytes", granted=granted, body=_BODY[::-1])

    async def _expired(self) -> str:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        return await self._refused("expired", granted=self._granted("expired", now=long_ago))

    async def _private(self) -> str:
        await self._store.put(f"{self._folder}private", _BODY, content_type=_TYPE)
        url = self._granted("private").url.partition("?")[0]
        response = await self._http.get(url)
        if response.status_code == 200:
            raise DoesNotHold(f"anybody can read what lies below {INCOMING_PREFIX}")
        return _told(response)

    async def _preflight(self) -> str:
        granted = self._granted("cors", sha256=bytes(32))
        response = await self._http.options(
            granted.url,
            headers={
                "Origin": "https://social.example",
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in granted.headers)),
            },
        )
        allowed = response.headers.get("access-control-allow-methods", "")
        if response.status_code >= 400 or "PUT" not in allowed:
            raise DoesNotHold(f"the preflight was answered {_told(response)}")
        return ""

    def _granted(self, name: str, *, sha256: bytes | None = None, now: datetime | None = None) -> PresignedPut:
        return self._store.presign_put(
            f"{self._folder}{name}",
            content_type=_TYPE,
            size_bytes=len(_BODY),
            sha256=sha256,
            expires_s=60,
            now=now or datetime.now(UTC),
        )

    async def _refused(
        self,
        name: str,
        *,
        granted: PresignedPut | None = None,
        body: bytes = _BODY,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """The PUT must be refused and leave nothing behind."""
        granted = granted or self._granted(name)
        try:
            response = await self._send(granted, body, headers or {})
        except httpx.RemoteProtocolError:  # cut off: a refusal too
            return "the connection was ended"
        if response.status_code == 200:
            raise DoesNotHold("it was accepted")
        if response.status_code not in _REFUSALS:
            raise DoesNotHold(f"neither accepted nor refused: {_told(response)}")
        return _told(response)

    async def _send(
        self, granted: PresignedPut, body: bytes = _BODY, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        return await self._http.put(granted.url, content=body, headers={**granted.headers, **(headers or {})})


def _told(response: httpx.Response) -> str:
    code = response.text.partition("<Code>")[2].partition("</Code>")[0]
    return f"{response.status_code} {code or response.reason_phrase}".strip()
