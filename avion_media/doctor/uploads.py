"""Presigned uploads: what the store must accept, and everything else that it must refuse.

The PUTs go where clients send theirs: to the store's public address.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from avion_media.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.doctor.clients import BODY, TYPE, UploadClient, describe
from avion_media.domain.keys import INCOMING_PREFIX

_MAX_SKEW_S = 60.0


class UploadChecks:
    """What `RequestMediaUpload` relies on."""

    def __init__(self, client: UploadClient) -> None:
        self._client = client

    def all(self) -> list[Check]:
        """In the order in which they are worth reading."""
        any_body = "clients can upload something else than what was checked and granted"
        check = partial(Check, Area.STORE)
        return [
            check("its clock agrees with ours", self._clock, "upload URLs expire too early or too late"),
            check("an upload of another length is refused", self._other_length, any_body),
            check("an upload of another type is refused", self._other_type, any_body),
            check("an upload to another key is refused", self._other_key, "a URL for one medium writes any other"),
            check("an upload of other bytes than the signed hash is refused", self._other_bytes, any_body),
            check("an expired URL is refused", self._expired, "an upload URL never expires"),
            check("incoming/ cannot be read without a signature", self._private, "unchecked uploads are public"),
            check(
                "browsers on any site may upload (CORS)",
                self._preflight,
                "uploads from browsers fail; `avion-media init` sets the rule",
                CheckStatus.WARNING,
            ),
        ]

    async def _clock(self) -> str:
        response = await self._client.send(self._client.granted("clock"))
        date = response.headers.get("date", "")
        try:
            theirs = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError:
            return "it tells no date"
        skew_s = abs((theirs - datetime.now(UTC)).total_seconds())
        if skew_s > _MAX_SKEW_S:
            raise CheckFailed(f"they are {skew_s:.0f} s apart")
        return f"{skew_s:.0f} s apart"

    async def _other_length(self) -> str:
        return await self._client.refused("length", body=BODY + b"!")

    async def _other_type(self) -> str:
        return await self._client.refused("type", headers={"Content-Type": "text/html"})

    async def _other_key(self) -> str:
        granted = self._client.granted("key")
        elsewhere = granted.url.replace(f"{self._client.folder}key", f"{self._client.folder}elsewhere", 1)
        return await self._client.refused("elsewhere", granted=replace(granted, url=elsewhere))

    async def _other_bytes(self) -> str:
        granted = self._client.granted("bytes", sha256=hashlib.sha256(BODY).digest())
        return await self._client.refused("bytes", granted=granted, body=BODY[::-1])

    async def _expired(self) -> str:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        return await self._client.refused("expired", granted=self._client.granted("expired", now=long_ago))

    async def _private(self) -> str:
        await self._client.store.put(f"{self._client.folder}private", BODY, content_type=TYPE)
        url = self._client.granted("private").url.partition("?")[0]
        response = await self._client.http.get(url)
        if response.status_code == 200:
            raise CheckFailed(f"anybody can read what lies below {INCOMING_PREFIX}")
        return describe(response)

    async def _preflight(self) -> str:
        granted = self._client.granted("cors", sha256=bytes(32))
        response = await self._client.http.options(
            granted.url,
            headers={
                "Origin": "https://social.example",
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": ",".join(sorted(name.lower() for name in granted.headers)),
            },
        )
        allowed = response.headers.get("access-control-allow-methods", "")
        if response.status_code >= 400 or "PUT" not in allowed:
            raise CheckFailed(f"the preflight got the response {describe(response)}")
        return ""
