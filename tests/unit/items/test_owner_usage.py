"""The usage of an owner with more media than a page holds: counted in parallel, each medium once."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from avion_media.common import keys
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.items import owners
from avion_media.items.owners import OwnerIndex, Usage

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
DAY_MS = 86_400_000


class Listed:
    """Pages of keys, as a store lists them."""

    def __init__(self, stored: list[str], prefix: str, after: str, page_size: int) -> None:
        self._left = [each for each in stored if each.startswith(prefix) and each > after]
        self._page_size = page_size

    def __aiter__(self) -> Listed:
        return self

    async def __anext__(self) -> list[str]:
        page, self._left = self._left[: self._page_size], self._left[self._page_size :]
        if not page:
            raise StopAsyncIteration
        return page


def index_of(stored: list[str]) -> OwnerIndex:
    def list_keys(prefix: str, start_after: str | None = None, *, page_size: int) -> Listed:
        return Listed(sorted(stored), prefix, start_after or "", page_size)

    store: Any = SimpleNamespace(get=lambda: SimpleNamespace(list_keys=list_keys))
    return OwnerIndex(store)


@pytest.mark.parametrize("seed", range(20))
async def test_each_medium_counts_once_whatever_its_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_PAGE", 5)
    chance = random.Random(seed)
    times = [NOW_MS - chance.randrange(1, 1000) * DAY_MS for _ in range(chance.randrange(0, 60))]  # an import
    times += [NOW_MS - 30 * DAY_MS] * chance.randrange(0, 40)  # an import of one day
    times += [NOW_MS + chance.randrange(DAY_MS)] * chance.randrange(0, 8)  # at once, by a clock that is ahead
    media = {new_media_id(JPEG, each): chance.randrange(1, 10**9) for each in times}
    stored = [keys.owned("alice", media_id, size) for media_id, size in media.items()]
    twice = [keys.owned("alice", media_id, size * 10) for media_id, size in media.items() if chance.random() < 0.3]
    others = [keys.owned("alice.b", media_id, 7) for media_id in media] + ["owner/alice/not-an-id.7"]

    usage = await index_of([*stored, *twice, *others]).usage("alice")

    assert usage == Usage(len(media), sum(media.values()))
