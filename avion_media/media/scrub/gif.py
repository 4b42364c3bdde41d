"""GIF: frames, their control blocks, the loop count and an ICC profile stay; comments, texts and all other
application data go, and what follows the trailer.
"""

from __future__ import annotations

import io

from avion_media.media.scrub.icc import neutral_profile
from avion_media.media.scrub.structure import corrupt

_HEADERS = (b"GIF87a", b"GIF89a")
_HEADER_BYTES = 13  # with the logical screen descriptor
_DESCRIPTOR_BYTES = 10  # of an image, with its separator
_IMAGE, _EXTENSION, _TRAILER, _PADDING = 0x2C, 0x21, 0x3B, 0x00
_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_IDENTIFIER_BYTES = 11
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_ICC = b"ICCRGBG1012"


def scrub_gif(view: memoryview) -> bytes:
    """See `scrub_image`. Ends with a trailer, except where the bytes ran out inside a frame.

    Between blocks, zeros are skipped and anything else that begins no block ends the file: GIF89a calls it corrupt
    from there, and browsers show what came before.
    """
    if view[:6] not in _HEADERS or len(view) < _HEADER_BYTES:
        raise corrupt("no GIF header")
    offset = _HEADER_BYTES + _colour_table_bytes(view[10])
    out = bytearray(view[:offset])
    frames = 0
    while offset < len(view):
        kind = view[offset]
        if kind == _IMAGE:
            end = _frame_end(view, offset)
            out += view[offset:end]
            if end is None:
                return bytes(out)
            frames += 1
        elif kind == _EXTENSION:
            end = _blocks_end(view, offset + 2)
            if end is None:
                break
            out += _kept_extension(view[offset:end])
        elif kind == _PADDING:
            end = offset + 1
        else:
            break
        offset = end
    if not frames:
        raise corrupt("no frame")
    out.append(_TRAILER)
    return bytes(out)


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _frame_end(view: memoryview, start: int) -> int | None:
    """The offset behind the frame at ``start``; None when it is cut off."""
    if start + _DESCRIPTOR_BYTES > len(view):
        return None
    table_bytes = _colour_table_bytes(view[start + _DESCRIPTOR_BYTES - 1])
    return _blocks_end(view, start + _DESCRIPTOR_BYTES + table_bytes + 1)


def _blocks_end(view: memoryview, offset: int) -> int | None:
    """The offset behind a run of data blocks (a length, that many bytes) and the empty one that ends it."""
    available = len(view)
    while offset < available:
        length = view[offset]
        offset += length + 1
        if not length:
            return offset
    return None


def _kept_extension(extension: memoryview) -> bytes | memoryview:
    """What stays of a whole extension (introducer, label, blocks, terminator)."""
    label, length = extension[1], extension[2]
    if label == _GRAPHIC_CONTROL and length >= 4:
        return bytes((_EXTENSION, _GRAPHIC_CONTROL, 4, *extension[3:7], 0))
    if label != _APPLICATION or length != _IDENTIFIER_BYTES:
        return b""
    identifier = extension[3 : 3 + _IDENTIFIER_BYTES]
    blocks = extension[3 + _IDENTIFIER_BYTES :]
    if identifier in _LOOPS:
        return _loop_count(extension[: 3 + _IDENTIFIER_BYTES], blocks)
    return _profile(extension[: 3 + _IDENTIFIER_BYTES], blocks) if identifier == _ICC else b""


def _loop_count(head: memoryview, blocks: memoryview) -> bytes:
    offset = 0
    while length := blocks[offset]:
        if length >= 3 and blocks[offset + 1] & 7 == 1:
            return bytes((*head, 3, 1, *blocks[offset + 2 : offset + 4], 0))
        offset += length + 1
    return b""


def _profile(head: memoryview, blocks: memoryview) -> bytes:
    """The extension with what stays of its profile, in blocks of the same lengths."""
    parts = []
    offset = 0
    while length := blocks[offset]:
        parts.append(blocks[offset + 1 : offset + 1 + length])
        offset += length + 1
    profile = io.BytesIO(neutral_profile(b"".join(parts)))
    if not profile.getbuffer():
        return b""
    return b"".join((head, *(bytes((len(part),)) + profile.read(len(part)) for part in parts), b"\x00"))
