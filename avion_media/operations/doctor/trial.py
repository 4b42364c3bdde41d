"""What the checks of the store work with: a client with an upload URL, honest or not, and the service's own access."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import httpx

from avion_media.backends.store import Lives, ObjectStore, PresignedPut
from avion_media.backends.store.contents import read_if_there
from avion_media.common.errors import MediaError
from avion_media.operations.doctor.check import CheckFailed
from avion_media.operations.setup import lives_of
from avion_media.process.settings import ProcessSettings

BODY: Final = b"a small upload, made by avion-media doctor"
TYPE: Final = "image/png"
_REFUSALS = frozenset({400, 401, 403, 411, 412, 501})  # stores differ; what matters is that nothing was taken


class Trial:
    """One examination of a store. All of its objects are below ``folder``, a key prefix of this examination alone.

    ``lives``: how long the lifecycle rules must keep objects.
    """

    def __init__(self, store: ObjectStore, http: httpx.AsyncClient, folder: str, config: ProcessSettings) -> None:
        self.store = store
        self.http = http
        self.folder = folder
        self.settings = config
        self.config = config.s3
        self.lives: Lives = lives_of(config)
        self._number = 0

    def key(self, name: str) -> str:
        """Return the key of an object of this examination."""
        return f"{self.folder}{name}"

    def unique(self, name: str) -> str:
        """Return a name that no other object of this examination has."""
        self._number += 1
        return f"{name}-{self._number}"

    async def put(self, name: str, body: bytes = BODY) -> str:
        """Store an object as the service does. Return its etag."""
        return await self.store.put(self.key(name), body, content_type=TYPE)

    async def stored(self, name: str) -> bytes | None:
        """Return a small object; None if there is none."""
        return await read_if_there(self.store, self.key(name), max_bytes=1 << 16)

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
            self.key(name),
            content_type=TYPE,
            size_bytes=len(BODY),
            sha256_digest=sha256,
            expires_s=60,
            now=now or datetime.now(UTC),
            guard=guard,
        )

    def plain_url(self, name: str) -> str:
        """Return the URL of an object, without a signature."""
        return self.granted(name).url.partition("?")[0]

    def download_url(self, name: str) -> str:
        """Return the URL of an object for a minute."""
        return self.store.downloads.get(self.key(name), expires_s=60, now=datetime.now(UTC))

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

    async def clean(self) -> list[str]:
        """Remove everything below ``folder``; the keys that could not be removed."""
        keys: list[str] = []
        try:
            keys = [each.key async for page in self.store.list(self.folder) for each in page]
            await self.store.delete(keys)
        except MediaError:
            return keys or [f"{self.folder}*"]
        return []


def describe(response: httpx.Response) -> str:
    """Return status and error code of a response of the store."""
    code = response.text.partition("<Code>")[2].partition("</Code>")[0]
    return f"{response.status_code} {code or response.reason_phrase}".strip()
