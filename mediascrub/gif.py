"""GIF: frames, their control blocks, the loop count and an ICC profile stay. All else is removed."""

from __future__ import annotations

from collections.abc import Iterator

from mediascrub.credentials import find_credentials
from mediascrub.errors import corrupt
from mediascrub.formats import Format
from mediascrub.icc import neutral_parts
from mediascrub.picture import Peek, Picture, bounded_parts, playing_time
from mediascrub.ranges import Range

_HEADERS = (b"GIF87a", b"GIF89a")
_HEADER_BYTES = 13  # with the logical screen descriptor
_DESCRIPTOR_BYTES = 10  # of an image, with its separator
_IMAGE, EXTENSION, _TRAILER, _PADDING = 0x2C, 0x21, 0x3B, 0x00
_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_IDENTIFIER_BYTES = 11
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_ICC = b"ICCRGBG1012"
_C2PA = bytes((EXTENSION, _APPLICATION, _IDENTIFIER_BYTES)) + b"C2PA_GIF\x01\x00\x00"


def peek(head: bytes) -> Peek | None:
    """See `PictureFormat`."""
    if len(head) < 10:
        return None
    return Peek(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))


def read(view: memoryview) -> Picture:
    """See `PictureFormat`. The original ends with a trailer, unless the file ends inside a frame.

    Zeros between blocks are skipped. Any other byte that begins no block ends the file: GIF89a calls it corrupt from
    there, and browsers show what came before. The canvas grows to contain the first frame, as in browsers and Pillow.
    """
    if view[:6] not in _HEADERS or len(view) < _HEADER_BYTES:
        raise corrupt("no GIF header")
    head = bytes(view[: _HEADER_BYTES + _colour_table_bytes(view[10])])
    original = bytearray(head)
    control: bytes | memoryview = b""  # the graphic control extension that applies
    delay_s = 0.0
    delays_s: list[float] = []
    first: memoryview | None = None
    still = b""
    whole = True
    carriers: list[Range] = []
    for kind, offset, end in blocks(view):
        if kind == _IMAGE:
            original += view[offset:end]
            if len(view) - offset > _DESCRIPTOR_BYTES:
                delays_s.append(delay_s)
                delay_s = 0.0
                if first is None:
                    first = view[offset + 1 : offset + 9]
                    still = b"".join((head, control, view[offset:end], bytes((_TRAILER,))))
            whole = end is not None
        elif kind == EXTENSION:
            kept = _kept_extension(view[offset:end]) if end else b""
            original += kept
            if kept and kept[1] == _GRAPHIC_CONTROL:
                control, delay_s = kept, int.from_bytes(kept[4:6], "little") / 100
            if end and not carriers and view[offset : offset + len(_C2PA)] == _C2PA:
                carriers.append(Range(offset, end - offset))
    if first is None:
        raise corrupt("no frame")
    if whole:
        original.append(_TRAILER)
    manifest = [part for each in carriers for part in _data_ranges(view, each.offset + len(_C2PA))]
    left, top, wide, high = (int.from_bytes(first[at : at + 2], "little") for at in (0, 2, 4, 6))
    return Picture(
        format=Format.GIF,
        width=max(int.from_bytes(head[6:8], "little"), left + wide),
        height=max(int.from_bytes(head[8:10], "little"), top + high),
        frames=len(delays_s),
        duration_s=playing_time(delays_s),
        original=bytes(original),
        still=still,
        first_frame=(left, top, left + wide, top + high),
        credentials=find_credentials(view, manifest, carriers, lambda rest: rest == original),
    )


def blocks(view: memoryview) -> Iterator[tuple[int, int, int | None]]:
    """Yield the first byte of each block before the trailer, its offset, and the offset behind it; None if cut off."""
    offset = _HEADER_BYTES + _colour_table_bytes(view[10])
    for _ in bounded_parts():
        kind = view[offset] if offset < len(view) else _TRAILER
        if kind == _IMAGE:
            end = _frame_end(view, offset)
        elif kind == EXTENSION:
            end = _blocks_end(view, offset + 2)
        elif kind == _PADDING:
            end = offset + 1
        else:
            return
        yield kind, offset, end
        if end is None:
            return
        offset = end


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _frame_end(view: memoryview, start: int) -> int | None:
    """Return the offset behind the frame at ``start``; None if it is cut off."""
    if start + _DESCRIPTOR_BYTES > len(view):
        return None
    table_bytes = _colour_table_bytes(view[start + _DESCRIPTOR_BYTES - 1])
    return _blocks_end(view, start + _DESCRIPTOR_BYTES + table_bytes + 1)


def _blocks_end(view: memoryview, offset: int) -> int | None:
    """Return the offset behind a run of data blocks (a length, that many bytes) and the empty one that ends it."""
    available = len(view)
    while offset < available:
        length = view[offset]
        offset += length + 1
        if not length:
            return offset
    return None


def _kept_extension(extension: memoryview) -> bytes | memoryview:
    """Return the part to keep of an extension (introducer, label, blocks, terminator)."""
    label, length = extension[1], extension[2]
    if label == _GRAPHIC_CONTROL and length >= 4:
        return bytes((EXTENSION, _GRAPHIC_CONTROL, 4, *extension[3:7], 0))
    if label != _APPLICATION or length != _IDENTIFIER_BYTES:
        return b""
    head, blocks = extension[: 3 + _IDENTIFIER_BYTES], extension[3 + _IDENTIFIER_BYTES :]
    if head[3:] in _LOOPS:
        counts = (block[1:3] for block in _data_blocks(blocks) if len(block) >= 3 and block[0] & 7 == 1)
        return next((bytes((*head, 3, 1, *count, 0)) for count in counts), b"")
    parts = neutral_parts(list(_data_blocks(blocks))) if head[3:] == _ICC else []
    # The profile is in blocks of the same lengths.
    return b"".join((head, *(bytes((len(part),)) + part for part in parts), b"\x00")) if parts else b""


def _data_blocks(blocks: memoryview) -> Iterator[memoryview]:
    """Yield the contents of data blocks, up to the empty one that ends them."""
    return (blocks[each.offset : each.end] for each in _data_ranges(blocks, 0))


def _data_ranges(view: memoryview, offset: int) -> Iterator[Range]:
    while length := view[offset]:
        yield Range(offset + 1, length)
        offset += length + 1
