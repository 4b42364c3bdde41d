"""Ogg (RFC 3533) with one stream of Opus (RFC 7845) or Vorbis: comments become an empty header of the same length.

So no page moves and none changes its number; pages with comments get another checksum. Text, other streams and Skeleton
are refused: to remove their pages would move the others. Chained streams are several tracks.
"""

from __future__ import annotations

import re
import struct
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass, field

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.movie import Edits, MoviePlan, sound_plan
from mediascrub.sparse import SparseFile, Window

_CAPTURE = re.compile(b"OggS")
_HEAD = struct.Struct("<4sBBqIIIB")  # pattern, version, flags, granule position, serial number, number, checksum, count
_CRC_AT = 22
_CONTINUED, _FIRST = 0x01, 0x02  # flags
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_OPUS, _VORBIS = b"OpusHead", b"\x01vorbis"
_OPUS_BYTES, _VORBIS_BYTES = 19, 30  # of Opus without a mapping of channels
_MOVING = (b"\x80theora", b"BBCD\0", b"\x80daala", b"\x01video\0\0\0")  # Dirac, OGM
_SOUND = (_OPUS, _VORBIS)
_OPUS_COMMENT, _VORBIS_COMMENT = b"OpusTags", b"\x03vorbis"


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

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@dataclass(slots=True)
class _Headers:
    """The first two packets: the kind of sound, and the comments. ``pages`` are those with a part of the second."""

    identification: bytes = b""
    comment_bytes: int = 0
    is_complete: bool = False
    pages: list[tuple[_Page, int]] = field(default_factory=list)  # and how many bytes of it are of the comments

    def add(self, page: _Page) -> None:
        """Read the next page."""
        if not self.identification:
            self.identification = page.data[page.payload :]
            if len(page.lacing) != -(-(len(self.identification) + 1) // 255):
                raise corrupt("more than one packet on the first page")
            return
        if bool(page.flags & _CONTINUED) != bool(self.pages):
            raise corrupt("the comments are interrupted")
        length = 0
        for value in page.lacing:
            length += value
            if value < 255:
                self.is_complete = True
                break
        self.pages.append((page, length))
        self.comment_bytes += length


def plan(file: SparseFile, fmt: Format, *, poster_seconds: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    file.require([file.whole])
    edits, headers = Edits(file.peek), _Headers()
    header_bytes = Quota(bounds.max_index_bytes, "bytes of comments", ScrubCode.TOO_LARGE)
    position, serial = 0, -1
    for page in _pages(file, bounds):
        edits.zero(position, page.offset - position)
        position = page.end
        if page.flags & _FIRST and (headers.identification or not page.data.startswith(_SOUND, page.payload)):
            raise _refusal(page, headers)
        serial = page.serial if serial < 0 else serial
        if page.serial != serial or (not headers.identification and not page.flags & _FIRST):
            raise corrupt("a page of no stream")
        if not headers.is_complete:
            header_bytes.take(len(page.data))
            headers.add(page)
    edits.zero(position, file.size_bytes - position)
    if not headers.is_complete:
        raise corrupt("the headers are cut off")
    _empty_comments(headers, edits)
    return sound_plan(file, fmt, 0.0, edits.joined_with(()))


def _pages(file: SparseFile, bounds: VideoBounds) -> Iterator[_Page]:
    """Yield the pages. One that is cut off, or has another checksum, is none: players drop it."""
    window, quota = Window(file), Quota(bounds.max_samples, "pages")
    false = Quota(4 * file.size_bytes, "bytes of false pages")
    offset, end = 0, file.size_bytes
    while (offset := window.find(_CAPTURE, offset, end)) < end:
        quota.take()
        head = window.at(offset, _HEAD.size + 255)
        if len(head) < _HEAD.size:
            return
        _, version, flags, _, serial, _, _, count = _HEAD.unpack_from(head)
        lacing = head[_HEAD.size : _HEAD.size + count]
        data = window.at(offset, length := _HEAD.size + count + sum(lacing))
        if version == 0 and len(data) == length and _checksum(data) == data[_CRC_AT : _CRC_AT + 4]:
            yield _Page(offset, flags, serial, lacing, data)
            offset += length
        else:
            false.take(len(data))
            offset += 1


def _refusal(page: _Page, headers: _Headers) -> ScrubError:
    """Return the error for the first page of a stream that is another one, or none of sound that is known."""
    is_of_several = headers.pages or page.data.startswith((*_SOUND, *_MOVING), page.payload)
    code = ScrubCode.SEVERAL_TRACKS if is_of_several else ScrubCode.UNSUPPORTED
    return ScrubError(code, f"a stream {page.data[page.payload :][:8]!r} in Ogg")


def _empty_comments(headers: _Headers, edits: Edits) -> None:
    head, length = headers.identification, headers.comment_bytes
    if head.startswith(_OPUS):
        channels, family = (head[9], head[18]) if len(head) >= _OPUS_BYTES else (0, 0)
        expected_bytes = _OPUS_BYTES + (2 + channels if family else 0)
        # Vendor and list are empty. What follows them is padding, because its first bit is 0 (RFC 7845, 5.2).
        mark, content, tail = _OPUS_COMMENT, bytes(8), b""
    else:
        expected_bytes = _VORBIS_BYTES
        # The length of the vendor, the vendor, the number of comments, and a bit at the end (Vorbis I, 5.2.1).
        mark, tail = _VORBIS_COMMENT, bytes(4) + b"\x01"
        content = max(0, length - len(mark) - 4 - len(tail)).to_bytes(4, "little")
    first, first_bytes = headers.pages[0]
    begins_well = first.data.startswith(mark, first.payload) and first_bytes >= len(mark + content + tail)
    if len(head) != expected_bytes or not begins_well:
        raise corrupt("the headers of the sound")
    empty = memoryview((mark + content).ljust(length - len(tail), b"\0") + tail)
    for page, part in headers.pages:
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
