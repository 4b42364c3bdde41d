"""FLAC (RFC 9639): of the metadata blocks only STREAMINFO stays, the others become padding of the same length."""

from __future__ import annotations

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import corrupt
from mediascrub.formats import Format
from mediascrub.movie import Edits, MoviePlan, sound_plan
from mediascrub.sparse import SparseFile
from mediascrub.tags import empty_id3v2, empty_tags_at_end, id3v2_credentials

MARK = b"fLaC"
_STREAMINFO, _PADDING, _FORBIDDEN, _LAST, _STREAMINFO_BYTES = 0, 1, 127, 0x80, 34


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    file.require([(whole := file.whole)])
    edits = Edits(file.peek)
    start = empty_id3v2(file, 0, edits, bounds)
    if file.read(start, min(len(MARK), whole.end - start)) != MARK:
        raise corrupt("no fLaC")
    offset, kind, blocks = start + len(MARK), 0, Quota(bounds.max_boxes, "blocks")
    while not kind & _LAST:
        blocks.take()
        kind, length = file.read(offset, 1)[0], int.from_bytes(file.read(offset + 1, 3), "big")
        if offset + 4 + length > whole.end or kind & ~_LAST == _FORBIDDEN:
            raise corrupt("a metadata block is cut off")
        if offset == start + len(MARK):
            if kind & ~_LAST != _STREAMINFO or length != _STREAMINFO_BYTES:
                raise corrupt("no STREAMINFO")
            # Rate (20 bits), channels (3), depth (5), samples (36; 0 if not known).
            packed = int.from_bytes(file.read(offset + 14, 8), "big")
        else:
            edits.put(offset, bytes((kind & _LAST | _PADDING,)))
            edits.zero(offset + 4, length)
        offset += 4 + length
    duration_s = (packed & ((1 << 36) - 1)) / max(1, packed >> 44)
    bounds.check_duration(duration_s)
    empty_tags_at_end(file, offset, edits)
    patches = edits.joined_with(())
    return sound_plan(file, Format.FLAC, duration_s, patches, id3v2_credentials(file, patches))
