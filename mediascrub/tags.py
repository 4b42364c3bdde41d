"""Tags before and after sound: ID3v2 (id3.org), and at the end ID3v1, APE (versions 1 and 2) and ID3v2.4.

A tag at the start keeps its place and length as a tag of nothing but padding. Those at the end are overwritten. Lyrics3
is not read: behind the last frame of an MP3 all else is overwritten too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.credentials import MANIFEST_HEAD_BYTES, Credentials, credentials_in_place
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.movie import Edits
from mediascrub.ranges import Patch, Range
from mediascrub.sparse import SparseFile

_HEAD_BYTES, _FOOTER, _CHANGES_FRAMES = 10, 0x10, 0xC0  # the last: unsynchronisation, an extended header
_MAX_FRAMES, _MAX_OBJECT_HEAD_BYTES = 64, 1024  # to look into; C2PA's SDK writes its frame into a tag of its own
_MANIFEST = re.compile(rb"[\0\3]application/(?:x-)?c2pa(?:-manifest-store)?\0[^\0]*\0[^\0]*\0")  # in Latin-1 or UTF-8
_ID3V1, _ID3V1_BYTES, _ENHANCED_BYTES, _NO_GENRE = b"TAG", 128, 227, b"\xff"
_APE_BYTES, _APE_HAS_HEADER = 32, 1 << 31
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


def id3v2_credentials(file: SparseFile, patches: Iterable[Patch]) -> Credentials | None:
    """Return the credentials in an ID3v2 tag at the start of a file that ``patches`` scrub.

    They are in a frame ``GEOB``: encoding, type, name, description and the manifest (ID3v2.4.0-frames, 4.15).
    """
    head = file.read(0, min(_HEAD_BYTES, file.size_bytes))
    end, offset = min(_id3v2_bytes(head), file.size_bytes), _HEAD_BYTES
    for _ in range(0 if end == 0 or head[3] not in (3, 4) or head[5] & _CHANGES_FRAMES else _MAX_FRAMES):
        if offset + _HEAD_BYTES > end:
            return None
        frame = file.read(offset, _HEAD_BYTES)
        size = int.from_bytes(frame[4:8], "big") if head[3] == 3 else _of_syncsafe(frame[4:8])
        content = offset + _HEAD_BYTES
        found = _MANIFEST.match(file.read(content, min(size, end - content, _MAX_OBJECT_HEAD_BYTES)))
        if frame[:4] == b"GEOB" and not any(frame[8:]) and content + size <= end and found:
            manifest = Range(content + found.end(), size - found.end())
            start = file.read(manifest.offset, min(manifest.length, MANIFEST_HEAD_BYTES))
            return credentials_in_place(start, manifest, Range(offset, _HEAD_BYTES + size), patches)
        offset = content + size
    return None


def _of_syncsafe(digits: bytes) -> int:
    return sum(byte << 7 * (3 - place) for place, byte in enumerate(digits))


def _id3v2_bytes(head: bytes, mark: bytes = b"ID3") -> int:
    """Return the length of the tag with this header (or footer, by its mark); 0 without one."""
    if len(head) < _HEAD_BYTES or head[:3] != mark or 0xFF in head[3:5] or max(head[6:]) > 0x7F:
        return 0
    return _HEAD_BYTES + _of_syncsafe(head[6:]) + (_HEAD_BYTES if head[5] & _FOOTER else 0)


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
    return _id3v2_bytes(tail[-_HEAD_BYTES:], b"3DI")
