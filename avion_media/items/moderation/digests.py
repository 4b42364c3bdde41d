"""Hashes in memory, found by their bytes or by their distance.

Exact hashes are sorted in one buffer for each first byte, which takes 33 to 34 bytes per SHA-256; a set of `bytes`
takes three times as much. Small buffers also keep each sort short, because a sort holds the interpreter's lock.

PDQ hashes are integers that are compared one by one, in a thread: XOR and bit count of 100,000 take about 10 ms of CPU.
An index over parts of the hashes would be faster, and several times as large.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

MAX_DISTANCE = 31  # maximum differing bits (of 256) of two PDQ hashes of the same image (Meta's recommendation)
MIN_QUALITY = 50  # of 100: an image below it has too little structure for a meaningful hash (Meta's recommendation)
_YIELD_EVERY = 2000  # entries after which the thread lets the event loop run


class DigestSet:
    """A set of digests of one length."""

    def __init__(self, digests: Iterable[bytes], size_bytes: int) -> None:
        self._size = size_bytes
        shards: list[bytearray] = [bytearray() for _ in range(256)]
        for index, digest in enumerate(digests):
            shards[digest[0]] += digest
            if index % _YIELD_EVERY == 0:
                time.sleep(0)
        self._shards = [self._sorted(shard) for shard in shards]

    def __len__(self) -> int:
        return sum(map(len, self._shards)) // self._size

    def __contains__(self, digest: bytes) -> bool:
        shard, size = self._shards[digest[0]], self._size
        low, high = 0, len(shard) // size
        while low < high:
            middle = (low + high) // 2
            if shard[middle * size : (middle + 1) * size] < digest:
                low = middle + 1
            else:
                high = middle
        return shard[low * size : (low + 1) * size] == digest

    def _sorted(self, shard: bytearray) -> bytes:
        size = self._size
        return b"".join(sorted({bytes(shard[first : first + size]) for first in range(0, len(shard), size)}))


@dataclass(frozen=True, slots=True)
class Likenesses:
    """PDQ hashes."""

    hashes: tuple[int, ...] = ()

    @classmethod
    def of(cls, digests: Iterable[bytes]) -> Likenesses:
        """Make a set of these digests."""
        return cls(tuple(int.from_bytes(each) for each in dict.fromkeys(digests)))

    def __len__(self) -> int:
        return len(self.hashes)

    def nearest(self, digest: bytes) -> tuple[int, bytes] | None:
        """Return the distance to the nearest hash, and that hash; None if none is within `MAX_DISTANCE`."""
        looked_for = int.from_bytes(digest)
        near = [each for each in self.hashes if (each ^ looked_for).bit_count() <= MAX_DISTANCE]
        if not near:
            return None
        best = min(near, key=lambda each: (each ^ looked_for).bit_count())
        return (best ^ looked_for).bit_count(), best.to_bytes(32)
