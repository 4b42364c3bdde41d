"""A client with an upload URL, honest or not: how the checks send to the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from avion_media.backends.store import ObjectStore, PresignedPut
from avion_media.operations.doctor.check import CheckFailed

BODY: Final = b"a small upload, made by avion-media doctor"
TYPE: Final = "image/png"
_REFUSALS = frozenset({400, 401, 403, 411, 412, 501})  # stores differ; what matters is that nothing was taken


class UploadClient:
    """Sends uploads below ``folder``, a key prefix of this examination alone."""

    def __init__(self, store: ObjectStore, http: httpx.AsyncClient, folder: str) -> None:
        self.store = store
        self.http = http
        self.folder = folder

    def granted(
        self,
        name: str,
        *,
        sha256: bytes | None = None,
        now: datetime | None = None,
        guard: Mapping[str, str] | None = None,
    ) -> PresignedPut:
        """An upload URL for ``BODY``, as `RequestMediaUpload` makes them; ``guard`` as in `Presigner.put`."""
        return self.store.uploads.put(
            f"{self.folder}{name}",
            content_type=TYPE,
            size_bytes=len(BODY),
            sha256_digest=sha256,
            expires_s=60,
            now=now or datetime.now(UTC),
            guard=guard,
        )

    async def send(
        self, granted: PresignedPut, body: bytes = BODY, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The PUT, with these headers besides those that were granted. Raises `httpx.HTTPError`."""
        return await self.http.put(granted.url, content=body, headers={**granted.headers, **(headers or {})})

    async def refused(
        self,
        name: str,
        *,
        granted: PresignedPut | None = None,
        body: bytes = BODY,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """The PUT must be refused; how it was. Raises `CheckFailed`."""
        try:
            response = await self.send(granted or self.granted(name), body, headers)
        except httpx.RemoteProtocolError:  # cut off: a refusal too
            return "the connection was ended"
        if response.status_code == 200:
            raise CheckFailed("the store accepted it")
        if response.status_code not in _REFUSALS:
            raise CheckFailed(f"neither accepted nor refused: {describe(response)}")
        return describe(response)


def describe(response: httpx.Response) -> str:
    """Return status and error code of a response of the store."""
    code = response.text.partition("<Code>")[2].partition("</Code>")[0]
    return f"{response.status_code} {code or response.reason_phrase}".strip()
