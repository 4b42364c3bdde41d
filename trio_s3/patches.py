"""Copies with some bytes replaced: which parts a store copies itself (UploadPartCopy), and which must be sent to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MIN_PART_BYTES = 5 << 20  # S3's own bound, for all parts but the last
MAX_SENT_PART_BYTES = 16 << 20  # a sent part is held in memory
MAX_COPIED_PART_BYTES = 128 << 20  # S3 allows 5 GiB: short requests, and several at once
MAX_PARTS = 10_000  # S3's own bound

Patch = tuple[int, bytes]
"""Offset and bytes. The patches of one copy are in order, apart from each other, and not empty."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """Bytes ``start`` to ``end`` (exclusive) of the new object: copied inside the store, or ``sent`` to it."""

    start: int
    end: int
    sent: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of this part."""
        return self.end - self.start


def plan_patched_copy(size_bytes: int, patches: Sequence[Patch]) -> list[PlannedPart]:
    """Divide the new object into parts. If the result is one sent part, a plain PUT has the same effect."""
    parts: list[PlannedPart] = []
    position = 0
    for start, end in _sent_spans(size_bytes, patches):
        parts += _cut(position, start, sent=False)
        parts += _cut(start, end, sent=True)
        position = end
    parts += _cut(position, size_bytes, sent=False)
    if len(parts) > MAX_PARTS:
        raise ValueError(f"{len(parts)} parts are more than {MAX_PARTS}")
    return parts


def _sent_spans(size_bytes: int, patches: Sequence[Patch]) -> list[tuple[int, int]]:
    """Return the spans to send. They, and the copied spans between them, are all large enough for parts."""
    spans: list[tuple[int, int]] = []
    for offset, data in patches:
        position = spans[-1][1] if spans else 0
        too_near = offset - position < MIN_PART_BYTES  # no room for a copied part in between
        start = (spans.pop()[0] if spans else 0) if too_near else offset
        spans.append((start, min(size_bytes, max(offset + len(data), start + MIN_PART_BYTES, position))))
    return spans


def _cut(start: int, end: int, *, sent: bool) -> list[PlannedPart]:
    """Divide a span into equal parts below the limit for their kind. Half of a longer span is still large enough."""
    size = end - start
    if size <= 0:
        return []
    count = -(-size // (MAX_SENT_PART_BYTES if sent else MAX_COPIED_PART_BYTES))
    edges = [start + size * index // count for index in range(count + 1)]
    return [PlannedPart(first, last, sent) for first, last in pairwise(edges)]


def patched(base: bytes, start: int, patches: Sequence[Patch]) -> bytes:
    """Return ``base``, which begins at offset ``start`` of the object, with the patches that fall inside applied."""
    result = bytearray(base)
    end = start + len(base)
    for offset, data in patches:
        first, last = max(offset, start), min(offset + len(data), end)
        if first < last:
            result[first - start : last - start] = data[first - offset : last - offset]
    return bytes(result)
