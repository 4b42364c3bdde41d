"""Scrubs a file into a copy, and reports what the copy lacks."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mediascrub import gif, png, webp
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.formats import Format, MediaKind
from mediascrub.isobmff import Box, codes, file_of_boxes
from mediascrub.jpeg import APP0, EOI, segments
from mediascrub.matroska.ebml import Id, parse_element
from mediascrub.ranges import Range, pieces
from mediascrub.readers import plan_movie, read_picture
from mediascrub.sniffing import HEAD_BYTES, sniff
from mediascrub.sparse import SparseFile

Part = tuple[str, Range]
_APP15, _COM = 0xEF, 0xFE
_EXTENSIONS = {0x01: "plain text", 0xF9: "graphic control", 0xFE: "comment"}  # of GIF
_PARENTS = codes("moov trak mdia minf stbl dinf edts moof traf mfra")
_MAX_BOXES = 1 << 20


def scrub_file(source: Path, target: Path) -> dict[str, int]:
    """Write a scrubbed copy of ``source`` to ``target``, which appears complete or not at all.

    Returns how many bytes were removed or overwritten, by part of the file, such as ``APP1 Exif`` or ``moov/udta``;
    empty if nothing was private. The limits are the defaults of `PictureBounds` and `VideoBounds`. Raises `ScrubError`,
    with UNSUPPORTED for a file that is not media, and `OSError`; ``target`` then stays as it was.
    """
    with source.open("rb") as original:
        size_bytes = os.fstat(original.fileno()).st_size
        found = sniff(original.read(HEAD_BYTES), size=size_bytes)
        if found.format is None:
            raise ScrubError(ScrubCode.UNSUPPORTED if size_bytes else ScrubCode.EMPTY, f"its type is {found.name}")
        scrub = _scrub_image if found.format.kind is MediaKind.IMAGE else _scrub_video
        mapped = mmap.mmap(original.fileno(), 0, access=mmap.ACCESS_READ)
        with mapped, memoryview(mapped) as view, _replacing(target, source) as copy:
            removed = scrub(view, found.format, copy)
    return {name: count for name, count in removed.items() if count > 0}


def _scrub_image(view: memoryview, fmt: Format, copy: BinaryIO) -> Counter[str]:
    scrubbed = read_picture(view, fmt).original
    copy.write(scrubbed)
    removed = _sizes(view, fmt)
    removed.subtract(_sizes(memoryview(scrubbed), fmt))
    return removed


def _sizes(view: memoryview, fmt: Format) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for name, part in _parts(view, fmt):
        sizes[name] += part.length
    return sizes


def _scrub_video(view: memoryview, fmt: Format, copy: BinaryIO) -> Counter[str]:
    """Copy the file, apply the patches, and return how many bytes they change in each part."""
    copy.write(view)
    copy.flush()
    plan = plan_movie(SparseFile(copy.fileno(), len(view)), fmt)
    for offset, data in pieces(plan.patches):
        copy.seek(offset)
        copy.write(data)
    changed: Counter[str] = Counter()
    parts = _parts(view, fmt)
    name, part = next(parts)
    for patch in plan.patches:
        while part.end < patch.end and part.end < len(view):
            changed[name] += max(0, part.end - max(part.offset, patch.offset))
            name, part = next(parts, ("other bytes", Range(part.end, len(view) - part.end)))
        changed[name] += patch.end - max(part.offset, patch.offset)
    return changed


def _parts(view: memoryview, fmt: Format) -> Iterator[Part]:
    """Yield the parts of a file that can be scrubbed, in order, by the names that their standards give them."""
    end = 0
    with suppress(ScrubError):  # damage behind what is shown
        for name, part in _WALKERS[fmt](view):
            yield name, part
            end = part.end
        yield "data after the last part", Range(end, len(view) - end)


@contextmanager
def _replacing(target: Path, source: Path) -> Iterator[BinaryIO]:
    """Open a new file that becomes ``target`` after the block, with the mode of ``source``, unless the block raises."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "w+b") as file:
            yield file
        shutil.copymode(source, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


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
