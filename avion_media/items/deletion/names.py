"""Which media the journal names, in constant memory: a Bloom filter.

https://doi.org/10.1145/362686.362692 (Bloom, 1970). With 10 million media, 4 in 1,000 others seem to be named as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

_BITS: Final = 27  # of a place: 16 MiB in all
_PLACES: Final = 4
_MASK: Final = (1 << _BITS) - 1


class NamedMedia:
    """The media that the journal named when the replays ``replays`` had begun."""

    def __init__(self, replays: Iterable[str]) -> None:
        self.replays = frozenset(replays)
        self._bits = bytearray(1 << (_BITS - 3))

    def add(self, media_ids: Iterable[bytes]) -> None:
        """Add media items."""
        for each in media_ids:
            for place in _places(each):
                self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, media_id: bytes) -> bool:
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in _places(media_id))


def _places(media_id: bytes) -> Iterator[int]:
    number = int.from_bytes(blake2b(media_id, digest_size=16).digest())
    for shift in range(0, _PLACES * _BITS, _BITS):
        yield number >> shift & _MASK
