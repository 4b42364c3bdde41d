"""The scrub of coded pictures: decides which samples are read, and returns the changes in them as patches.

If the whole file is present, all samples are read. Of a large video the first seconds decide, which are fetched for the
poster anyway. If they contain at most one private message, which is the note of an encoder, the rest counts as clean.
If they contain more, the whole file is fetched (see docs/security.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from avion_media.domain.ranges import Patch, Range
from avion_media.media.formats.coded_data import Coding, changes_of_sample
from avion_media.media.formats.sparse import SparseFile

_NOTES = 1  # encoders write their settings once


@dataclass(frozen=True, slots=True)
class CodedSample:
    """One sample of a video track: its range, its coding, and its codec's configuration."""

    data: Range
    coding: Coding
    private: bytes


def coded_patches(file: SparseFile, samples: Iterable[CodedSample], first_seconds: Iterable[Range]) -> Iterator[Patch]:
    """Yield the changes in ``samples``.

    Raises `Missing` for ``first_seconds`` if there are samples, and for the whole file if these decide so.
    """
    ordered = sorted(samples, key=lambda sample: sample.data)
    if not ordered:
        return
    whole = Range(0, file.size_bytes)
    beginnings = (whole,) if file.is_whole else tuple(first_seconds)
    file.require(beginnings)
    found: list[Patch] = []
    position = 0
    for sample in ordered:
        # Samples that overlap come from a forged table.
        if sample.data.offset < position or not any(_holds(each, sample.data) for each in beginnings):
            continue
        position = sample.data.end
        data = file.read(sample.data.offset, sample.data.length)
        for offset, new in changes_of_sample(sample.coding, sample.private, data):
            found.append(Patch(sample.data.offset + offset, len(new), new))
        if len(found) > _NOTES and beginnings[0] != whole:
            file.require([whole])
    yield from found


def _holds(outer: Range, inner: Range) -> bool:
    return outer.offset <= inner.offset and inner.end <= outer.end
