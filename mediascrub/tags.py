"""Tags before and after sound: ID3v2 (id3.org), and at the end ID3v1, Lyrics3, APE (versions 1 and 2) and ID3v2.4.

A tag at the start keeps its place and length as a tag of nothing but padding. Those at the end are overwritten.
"""

from __future__ import annotations

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.movie import Edits
from mediascrub.sparse import SparseFile

_HEAD_BYTES, _FOOTER = 10, 0x10
_ID3V1, _ID3V1_BYTES, _ENHANCED_BYTES, _NO_GENRE = b"TAG", 128, 227, b"\xff"
_APE_BYTES, _APE_HAS_HEADER = 32, 1 << 31
_LYRICS_MARK_BYTES, _LYRICS_SIZE_BYTES, _MAX_LYRICS_BYTES = 9, 6, 5100 + 20
_TAIL_BYTES = _ID3V1_BYTES + _ENHANCED_BYTES


def empty_id3v2(file: SparseFile, offset: int, edits: Edits, bounds: VideoBounds) -> int:
    """Empty the ID3v2 tags at ``offset``, of which there can be several. Return the offset behind the last one."""
    quota = Quota(bounds.max_boxes, "tags")
    while (length := _id3v2_bytes(head := file.read(offset, min(_HEAD_BYTES, file.size_bytes - offset)))) > 0:
        quota.take()
        end = min(offset + length, file.size_bytes)
        edits.put(offset, head[:5] + b"\0" + _syncsafe(end - offset - _HEAD_BYTES))  # without flags: no footer
        edits.zero(offset + _HEAD_BYTES, end - offset - _HEAD_BYTES)
        offset = end
    return offset


def _id3v2_bytes(head: bytes, mark: bytes = b"ID3") -> int:
    """Return the length of the tag with this header (or footer, by its mark); 0 without one."""
    if len(head) < _HEAD_BYTES or head[:3] != mark or 0xFF in head[3:5] or max(head[6:]) > 0x7F:
        return 0
    size = sum(byte << 7 * (3 - place) for place, byte in enumerate(head[6:]))
    return _HEAD_BYTES + size + (_HEAD_BYTES if head[5] & _FOOTER else 0)


def _syncsafe(number: int) -> bytes:
    if number >= 1 << 28:
        raise ScrubError(ScrubCode.TOO_LARGE, "a tag")
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def empty_tags_at_end(file: SparseFile, start: int, edits: Edits) -> int:
    """Overwrite the tags at the end of the file, none before ``start``. Return where they began.

    An ID3v1 at the very end, where players look for it, stays as one without entries.
    """
    begin = end = file.size_bytes
    while (length := _last_tag_bytes(file, start, begin)) > 0:
        begin = max(start, begin - length)
    if end - begin >= _ID3V1_BYTES and file.read(last := end - _ID3V1_BYTES, len(_ID3V1)) == _ID3V1:
        edits.zero(last + len(_ID3V1), _ID3V1_BYTES - len(_ID3V1) - 1)
        edits.put(end - 1, _NO_GENRE)
        end = last
    edits.zero(begin, end - begin)
    return begin


def _last_tag_bytes(file: SparseFile, start: int, end: int) -> int:
    tail = file.read(begin := max(start, end - _TAIL_BYTES), end - begin)
    if tail[-_ID3V1_BYTES:].startswith(_ID3V1) and len(tail) >= _ID3V1_BYTES:
        return _TAIL_BYTES if tail.startswith(b"TAG+") else _ID3V1_BYTES
    ape = tail[-_APE_BYTES:]
    if ape.startswith(b"APETAGEX") and len(ape) == _APE_BYTES:
        size, has_header = int.from_bytes(ape[12:16], "little"), int.from_bytes(ape[20:24], "little") & _APE_HAS_HEADER
        return max(size, _APE_BYTES) + (_APE_BYTES if has_header else 0)
    if tail.endswith(b"LYRICS200"):
        size_at = -_LYRICS_MARK_BYTES - _LYRICS_SIZE_BYTES
        digits = tail[size_at:-_LYRICS_MARK_BYTES]
        return (int(digits) if digits.isdigit() else 0) - size_at
    if tail.endswith(b"LYRICSEND"):
        lyrics = file.read(begin := max(start, end - _MAX_LYRICS_BYTES), end - begin)
        return len(lyrics) - max(0, lyrics.rfind(b"LYRICSBEGIN"))
    footer = tail[-_HEAD_BYTES:]
    return _id3v2_bytes(footer, b"3DI")
