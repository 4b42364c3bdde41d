"""Motion JPEG: each frame is a JPEG file, with Exif and comments like any other, or two of them (its fields)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from avion_media.media.coded_data.changes import Change, change

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_SOI, _EOI, _COM = 0xD8, 0xD9, 0xFE
_START = bytes((0xFF, _SOI))
_APP0, _APP2, _APP14, _APP15 = 0xE0, 0xE2, 0xEE, 0xEF
_ICC_PREFIX = b"ICC_PROFILE\0"
_QUICKTIME_FIELD = b"\0\0\0\0mjpg"  # APP1 of QuickTime's Motion JPEG A: where its parts lie


def changes(frame: bytes) -> Iterator[Change]:
    """What to overwrite: comments and applications' data that decoders do not go by become an empty APP15."""
    if not frame.startswith(_START):
        return
    position = 0
    ended = False
    while found := _MARKER.search(frame, position):
        marker, start = found[1][0], found.end()
        if ended and marker != _SOI:
            break
        ended = marker == _EOI
        position = start
        if marker in (_SOI, _EOI, 0x01):
            continue
        end = start + int.from_bytes(frame[start : start + 2], "big")
        if end < start + 2 or end > len(frame):
            return
        if _is_private(marker, frame[start + 2 : start + 16]):
            head = bytes((_APP15,)) + frame[start : start + 2]
            yield from change(frame, start - 1, head + bytes(end - start - 2))
        position = end
    if ended and frame[position:].strip(b"\0\xff"):
        yield position, bytes(len(frame) - position)


def _is_private(marker: int, content: bytes) -> bool:
    if marker == _COM:
        return True
    if not _APP0 <= marker <= _APP15:
        return False
    return not (
        marker in (_APP0, _APP14)
        or (marker == _APP2 and content.startswith(_ICC_PREFIX))
        or content.startswith(_QUICKTIME_FIELD)
    )
