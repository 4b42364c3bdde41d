"""Motion JPEG: each frame is a JPEG file, with Exif and comments like any other, or two of them (its fields)."""

from __future__ import annotations

from collections.abc import Iterator

from avion_media.media.formats.coded_data.changes import Change, change
from avion_media.media.formats.jpeg import APP0, APP14, EOI, SOI, START, segments

_COM, _APP1, _APP15 = 0xFE, 0xE1, 0xEF
# What decoders use, and the most that it takes: the order of fields in AVI, and in QuickTime's Motion JPEG A with the
# offsets of their parts; the kind of colours; a JFIF header without its picture.
_NEEDED = {(APP0, b"AVI1"): 16, (APP0, b"JFIF\0"): 14, (APP14, b"Adobe"): 12, (_APP1, b"\0\0\0\0mjpg"): 40}


def changes_of_sample(private: bytes, sample: bytes) -> Iterator[Change]:
    """Yield the changes of a frame: comments, and application data that no decoder uses, become an empty APP15."""
    if not sample.startswith(START):
        return
    ended = 0  # the offset after the last complete field
    for segment in segments(memoryview(sample)):
        if ended and segment.marker != SOI:
            break
        ended = segment.offset + 2 if segment.marker == EOI else 0
        if _is_private(segment.marker, segment.payload):
            head = bytes((_APP15,)) + bytes(segment.whole[2:4])
            yield from change(sample, segment.offset + 1, head + bytes(len(segment.payload)))
    if ended and sample[ended:].strip(b"\0\xff"):
        yield ended, bytes(len(sample) - ended)


def changes_of_private(private: bytes) -> Iterator[Change]:
    """Return nothing: this coding has no configuration."""
    return iter(())


def _is_private(marker: int, content: memoryview) -> bool:
    if not APP0 <= marker <= _APP15:
        return marker == _COM
    most = [most for (needed, start), most in _NEEDED.items() if needed == marker and content[: len(start)] == start]
    return len(content) > max(most, default=-1)
