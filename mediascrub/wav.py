"""WAVE (RIFF, and RF64 by EBU Tech 3306): format, sound and sample count stay, other chunks become ``JUNK`` of zeros.

A recorder that is not done leaves the length of its sound as 0 or all ones: then the sound is the rest of the file.
"""

from __future__ import annotations

import struct

from mediascrub.bounds import Quota, VideoBounds
from mediascrub.credentials import MANIFEST_HEAD_BYTES, credentials_in_place
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.movie import Edits, MoviePlan, sound_plan
from mediascrub.ranges import Range
from mediascrub.sparse import SparseFile

FORMS = (b"RIFF", b"RF64", b"BW64")
_HEAD_BYTES, _FIRST_CHUNK = 8, 12
_UNKNOWN = 0xFFFFFFFF
_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")  # behind the two bytes of a usual format
_EXTENSIBLE, _EXTENSIBLE_BYTES = 0xFFFE, 40
# Linear, float, A-law, µ-law: browsers play these. Their description is as long as that of a linear one.
_FORMATS, _FORMAT_BYTES = frozenset((1, 3, 6, 7)), 16
_OTHER_BYTES = {b"ds64": 28, b"fact": 4}  # of ds64 not the table of other long chunks


def plan(file: SparseFile, fmt: Format, *, poster_s: float, bounds: VideoBounds) -> MoviePlan:
    """See `MovieFormat`."""
    file.require([(whole := file.whole)])
    if (start := file.read(0, min(_FIRST_CHUNK, whole.end)))[:4] not in FORMS or start[8:] != b"WAVE":
        raise corrupt("no header of a WAVE file")
    edits, seen, quota = Edits(file.peek), {b""}, Quota(bounds.max_boxes, "chunks")
    offset, sound_bytes, long_bytes, bytes_per_s = _FIRST_CHUNK, 0, 0, 0
    manifest, manifest_head = Range(0, 0), b""
    while offset + _HEAD_BYTES <= whole.end:
        quota.take()
        kind, size = struct.unpack("<4sI", file.read(offset, _HEAD_BYTES))
        payload = offset + _HEAD_BYTES
        if kind == b"data" and kind not in seen:
            size = long_bytes if size == _UNKNOWN and long_bytes else size
            size = whole.end - payload if size in (0, _UNKNOWN) else size
        size = min(size, whole.end - payload)
        content = file.read(payload, min(size, _EXTENSIBLE_BYTES))
        kept = 0 if kind in seen else _format_bytes(content) if kind == b"fmt " else _OTHER_BYTES.get(kind, 0)
        if kind == b"data" and kind not in seen:
            sound_bytes = kept = size
        elif kept == 0:
            edits.put(offset, b"JUNK")
            if kind == b"C2PA" and not manifest_head:
                manifest, manifest_head = Range(payload, size), content[:MANIFEST_HEAD_BYTES]
        elif kind == b"fmt ":
            bytes_per_s = int.from_bytes(content[8:12], "little")
        elif kind == b"ds64":
            long_bytes = int.from_bytes(content[8:16], "little")
        edits.zero(payload + kept, size - kept)
        seen.add(kind)
        edits.zero(payload + size, min(size % 2, whole.end - payload - size))
        offset = payload + size + size % 2
    edits.zero(offset, whole.end - offset)
    if not sound_bytes:
        raise ScrubError(ScrubCode.NO_SOUND)
    if b"fmt " not in seen or not bytes_per_s:
        raise corrupt("no format before the sound")
    bounds.check_duration(duration_s := sound_bytes / bytes_per_s)
    patches = edits.joined_with(())
    carrier = Range(manifest.offset - _HEAD_BYTES, _HEAD_BYTES + manifest.length + manifest.length % 2)
    credentials = credentials_in_place(manifest_head, manifest, carrier, patches)
    return sound_plan(file, fmt, duration_s, patches, credentials)


def _format_bytes(content: bytes) -> int:
    if len(content) < _FORMAT_BYTES:
        raise corrupt("the format is cut off")
    code = int.from_bytes(content[:2], "little")
    is_long = code == _EXTENSIBLE and len(content) >= _EXTENSIBLE_BYTES
    if is_long and content[26:] == _SUBFORMAT:
        code = int.from_bytes(content[24:26], "little")
    if code not in _FORMATS:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"format {code:x} of WAVE")
    return _EXTENSIBLE_BYTES if is_long else _FORMAT_BYTES
