"""What several parts need of parts that they must not import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Deletions(Protocol):
    """Answers whether media are deleted."""

    async def is_deleted(self, media_id: str) -> bool:
        """Return whether the media item is deleted.

        Raises `Unavailable` soon if Redis does not answer; of `Dependency.DELETIONS` if it has lost deletions.
        """


class PurgeRequests(Protocol):
    """Requests purges of the CDN."""

    async def request(self, media_id: str, trigger: str, sizes: Iterable[str] = ()) -> None:
        """Purge one media item soon. Several requests with the same ``trigger`` make one purge."""
