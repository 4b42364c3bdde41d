"""Ogg (RFC 3533) with one stream of Opus (RFC 7845) or Vorbis: comments become an empty header of the same length.

So no page moves and none changes its number; pages with comments get another checksum. Text, other streams and Skeleton
are refused: to remove their pages would move the others. Chained streams are several tracks.
"""

from __future__ import annotations

import mmap
import struct
from binascii import crc32
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.movie import Edits, MoviePlan, sound_plan
from mediascrub.sparse import SparseFile

_HEAD = struct.Struct("<4sBBqIIIB")  # pattern, version, flags, granule position, serial number, number, checksum, count
_CRC_AT = 22
_CONTINUED, _FIRST = 0x01, 0x02  # flags
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_OPUS, _VORBIS = b"OpusHead", b"\x01vorbis"
_OPUS_BYTES, _VORBIS_BYTES = 19, 30  # of Opus without a mapping of channels
_MOVING = (b"\x80theora", b"BBCD\0", b"\x80daala", b"\x01video\0\0\0")  # Dirac, OGM
_SOUND = (_OPUS, _VORBIS)
_COMMENT_BYTES = 16  # of one without vendor and comments, of both


@dataclass(frozen=True, slots=True)
class _Page:
    offset: int
    flags: int
    serial: int
    lacing: bytes
    data: bytes  # with the header

    @property
    def payload(self) -> int:
        """The index of its payload in ``data``."""
        return _HEAD.size + len(self.lacing)


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    edits, position = Edits(file.peek), 0
    headers: list[_Page] = []
    header_bytes = Quota(bounds.max_index_bytes, "bytes of comments", ScrubCode.TOO_LARGE)
    is_complete = False
    for page in _pages(file.mapped(), bounds):
        edits.zero(position, page.offset - position)
        position = page.offset + len(page.data)
        if page.flags & _FIRST and (headers or not page.data.startswith(_SOUND, page.payload)):
            is_of_several = len(headers) > 1 or page.data.startswith((*_SOUND, *_MOVING), page.payload)
            code = ScrubCode.SEVERAL_TRACKS if is_of_several else ScrubCode.UNSUPPORTED
            raise ScrubError(code, f"a stream {page.data[page.payload :][:8]!r} in Ogg")
        if page.serial != (headers or [page])[0].serial or not (headers or page.flags & _FIRST):
            raise corrupt("a page of no stream")
        if not is_complete:
            header_bytes.take(len(page.data))
            headers.append(page)
            is_complete = len(headers) > 1 and min(page.lacing, default=255) < 255
    edits.zero(position, file.size_bytes - position)
    if not is_complete:
        raise corrupt("the headers are cut off")
    _empty_comments(headers, edits)
    return sound_plan(file, fmt, 0.0, edits.joined_with(()))


def _pages(view: mmap.mmap, bounds: VideoBounds) -> Iterator[_Page]:
    """Yield the pages. One that is cut off, or has another checksum, is none: players drop it."""
    quota, false = Quota(bounds.max_samples, "pages"), Quota(4 * len(view), "bytes of false pages")
    offset = 0
    while 0 <= (offset := view.find(b"OggS", offset)) <= len(view) - _HEAD.size:
        quota.take()
        _, version, flags, _, serial, _, _, count = _HEAD.unpack_from(view, offset)
        lacing = view[offset + _HEAD.size : offset + _HEAD.size + count]
        data = view[offset : offset + (length := _HEAD.size + count + sum(lacing))]
        if version == 0 and len(data) == length and _checksum(data) == data[_CRC_AT : _CRC_AT + 4]:
            yield _Page(offset, flags, serial, lacing, data)
            offset += length
        else:
            false.take(len(data))
            offset += 1


def _empty_comments(headers: Sequence[_Page], edits: Edits) -> None:
    """Empty the second packet, which begins on the second page and ends on the last of ``headers``."""
    first, *pages = headers
    head, last = first.data[first.payload :], pages[-1].lacing
    parts = [sum(page.lacing) for page in pages]
    parts[-1] = sum(last[: next(index for index, value in enumerate(last, 1) if value < 255)])
    length = sum(parts)
    if head.startswith(_OPUS):
        expected_bytes = _OPUS_BYTES + (2 + head[9] if head[18:19].strip(b"\0") else 0)
        # Vendor and list of no length. What follows them is padding, because its first bit is 0 (RFC 7845, 5.2).
        mark, content = b"OpusTags", bytes(max(0, length - 8))
    else:
        # The length of the vendor, the vendor, the number of comments, and a bit at the end (Vorbis I, 5.2.1).
        expected_bytes, mark, filler_bytes = _VORBIS_BYTES, b"\x03vorbis", max(0, length - _COMMENT_BYTES)
        content = filler_bytes.to_bytes(4, "little") + bytes(filler_bytes + 4) + b"\x01"
    continued = [bool(page.flags & _CONTINUED) for page in pages]
    begins_well = pages[0].data.startswith(mark, pages[0].payload) and continued == [False, *(True for _ in pages[1:])]
    if len(head) != expected_bytes or length < _COMMENT_BYTES or not begins_well:
        raise corrupt("the headers of the sound")
    empty = mark + content
    for page, part in zip(pages, parts, strict=True):
        start, end = page.payload, page.payload + part
        clean = page.data[:start] + empty[:part] + page.data[end:]
        if clean != page.data:
            edits.put(page.offset + _CRC_AT, _checksum(clean))
            edits.put(page.offset + start, clean[start:end])
        empty = empty[part:]


def _checksum(page: bytes) -> bytes:
    """Return the checksum of a page: with the polynomial of `crc32`, but its bits the other way round, from 0."""
    content = page[:_CRC_AT] + bytes(4) + page[_CRC_AT + 4 :]
    crc = crc32(content.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_REVERSED)
