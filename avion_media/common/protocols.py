"""What several parts need of parts that they must not import."""

from __future__ import annotations

from typing import Protocol


class Deletions(Protocol):
    """Answers whether media are deleted."""

    async def is_deleted(self, media_id: str) -> bool:
        """Return whether the media item is deleted.

        Raises `Unavailable` soon if Redis does not answer; of `Dependency.DELETIONS` if it has lost deletions.
        """
