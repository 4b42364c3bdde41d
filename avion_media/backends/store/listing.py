"""Listings, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from avion_media.backends.store.requests import ListingPage

T = TypeVar("T")


class Pages(Generic[T]):
    """An asynchronous iterator of pages. It holds nothing between two pages, so it can be left anywhere.

    It is a class, because the caller of an async generator would have to close it after leaving it early.
    """

    def __init__(self, read: Callable[[str], Awaitable[ListingPage[T]]]) -> None:
        """``read`` returns the page at a token; the first one has an empty token."""
        self._read = read
        self._token: str | None = ""

    def __aiter__(self) -> Pages[T]:
        return self

    async def __anext__(self) -> list[T]:
        if self._token is None:
            raise StopAsyncIteration
        page = await self._read(self._token)
        self._token = page.next_token or None
        if not page.entries and self._token is None:
            raise StopAsyncIteration
        return page.entries
