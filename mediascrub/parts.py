"""The parts of a file by the names that their standards give them, for a report of what a scrub removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mediascrub import gif, png, webp
from mediascrub.formats import Format
from mediascrub.isobmff import Box, codes, file_of_boxes
from mediascrub.jpeg import APP0, EOI, segments
from mediascrub.matroska.ebml import Id, parse_element
from mediascrub.ranges import Range

Part = tuple[str, Range]
_APP15, _COM = 0xEF, 0xFE
_EXTENSIONS = {0x01: "plain text", 0xF9: "graphic control", 0xFE: "comment"}  # of GIF
_PARENTS = codes("moov trak mdia minf stbl dinf edts moof traf mfra")
_MAX_BOXES = 1 << 20


def parts_of(view: memoryview, fmt: Format) -> Iterator[Part]:
    """Yield the parts of a file that can be scrubbed, in order; raise `ScrubError` (CORRUPT) where it is damaged."""
    end = 0
    for name, part in _WALKERS[fmt](view):
        yield name, part
        end = part.end
    yield "data after the last part", Range(end, len(view) - end)


def _of_jpeg(view: memoryview) -> Iterator[Part]:
    for segment in segments(view):
        name = "picture"
        if APP0 <= segment.marker <= _APP15:  # with its identifier, which ends with a NUL
            identifier = re.match(rb"[ -~]*", bytes(segment.payload[:40]))
            name = f"APP{segment.marker - APP0} {identifier[0].decode() if identifier else ''}".rstrip()
        elif segment.marker == _COM:
            name = "COM"
        yield name, Range(segment.offset, len(segment.whole))
        if segment.marker == EOI:
            return


def _of_png(view: memoryview) -> Iterator[Part]:
    offset = len(png.SIGNATURE)
    for chunk in png.chunks(view):
        yield chunk.kind.decode("latin-1"), Range(offset, len(chunk.whole))
        offset += len(chunk.whole)


def _of_gif(view: memoryview) -> Iterator[Part]:
    for kind, offset, end in gif.blocks(view):
        name = "picture"
        if kind == gif.EXTENSION and end:
            name = _EXTENSIONS.get(view[offset + 1]) or bytes(view[offset + 3 : offset + 14]).decode("latin-1")
        yield name, Range(offset, (end or len(view)) - offset)


def _of_webp(view: memoryview) -> Iterator[Part]:
    offset = 12
    for kind, payload in webp.chunks(view[12 : 8 + int.from_bytes(view[4:8], "little")]):
        length = 8 + len(payload) + len(payload) % 2
        yield kind.decode("latin-1").rstrip(), Range(offset, length)
        offset += length


def _of_boxes(view: memoryview) -> Iterator[Part]:
    return _leaves(file_of_boxes(view, _MAX_BOXES), "")


def _leaves(parent: Box, path: str) -> Iterator[Part]:
    for box in parent.walk():
        name = path + box.type.decode("latin-1")
        if box.type in _PARENTS:
            yield from _leaves(box, f"{name}/")
        else:
            yield name, Range(box.offset, box.size)


def _of_matroska(view: memoryview) -> Iterator[Part]:
    names = {each.value: each.name.title().replace("_", "") for each in Id}
    offset, end = parse_element(view, 0, 0).end, len(view)
    offset = parse_element(view, offset, offset).payload
    while offset < end:
        element = parse_element(view, offset, offset)
        yield names.get(element.id, f"element {element.id:x}"), Range(offset, min(element.end, end) - offset)
        offset = element.end


_WALKERS: dict[Format, Callable[[memoryview], Iterator[Part]]] = {
    Format.JPEG: _of_jpeg,
    Format.PNG: _of_png,
    Format.GIF: _of_gif,
    Format.WEBP: _of_webp,
    **dict.fromkeys((Format.AVIF, Format.HEIC, Format.MP4, Format.MOV), _of_boxes),
    **dict.fromkeys((Format.WEBM, Format.MKV), _of_matroska),
}
