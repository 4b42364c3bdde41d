"""Presigned uploads: what the store must accept, and everything else that it must refuse.

The PUTs go where clients send theirs: to the store's public address.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from avion_media.common.keys import INCOMING_PREFIX
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.operations.doctor.clients import BODY, TYPE, UploadClient, describe

_MAX_SKEW_S = 60.0


class UploadChecks:
    """What `RequestMediaUpload` relies on."""

    def __init__(self, client: UploadClient) -> None:
        self._client = client

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""
        any_body = "clients can upload content that was never checked"
        check = partial(Check, Area.STORE)
        return [
            check("clock in sync", self._clock, "upload URLs expire too early or too late"),
            check("rejects an upload of a different length", self._other_length, any_body),
            check("rejects an upload of a different type", self._other_type, any_body),
            check(
                "rejects an upload to a different key", self._other_key, "one upload URL can overwrite any media item"
            ),
            check("rejects content that does not match the signed SHA-256", self._other_bytes, any_body),
            check("rejects expired URLs", self._expired, "upload URLs never expire"),
            check("requires a signature to read incoming/", self._private, "unchecked uploads are public"),
            check(
                "allows uploads from browsers (CORS)",
                self._preflight,
                "uploads from browsers fail; run `avion-media init`",
                CheckStatus.WARNING,
            ),
        ]

    async def _clock(self) -> str:
        response = await self._client.send(self._client.granted("clock"))
        date = response.headers.get("date", "")
        try:
            theirs = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        except ValueError:
            return "no Date header"
        skew_s = abs((theirs - datetime.now(UTC)).total_seconds())
        if skew_s > _MAX_SKEW_S:
            raise CheckFailed(f"clocks differ by {skew_s:.0f} s")
        return f"clocks differ by {skew_s:.0f} s"

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
            raise CheckFailed(f"{INCOMING_PREFIX} can be read without a signature")
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
