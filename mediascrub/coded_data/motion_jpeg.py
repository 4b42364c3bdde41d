"""Motion JPEG: each frame is a JPEG file, with Exif and comments like any other, or two of them (its fields)."""

from __future__ import annotations

from collections.abc import Iterator

from mediascrub.coded_data.changes import Change, change
from mediascrub.jpeg import APP0, APP14, EOI, SOI, START, segments

_COM, _APP1, _APP15 = 0xFE, 0xE1, 0xEF
# What decoders use, and the most that it takes: the order of fields in AVI, and in QuickTime's Motion JPEG A with the
# offsets of their parts; the kind of colours; a JFIF header without its picture.
_NEEDED = {(APP0, b"AVI1"): 16, (APP0, b"JFIF\0"): 14, (APP14, b"Adobe"): 12, (_APP1, b"\0\0\0\0mjpg"): 40}
# What libav takes from comments: a limited range of colours, the shape of pixels, lines from the bottom up, and, in the
# 13th byte of Avid's, which of two fields is the upper one.
_AVID = b"AVID" + bytes(8)
_INSTRUCTIONS = (
    *(b"CS=ITU601\0", b"MULTISCOPE II\0"),  # whole comments
    *(b"Intel(R) JPEG Library, version 1", b"Metasoft MJPEG Codec", _AVID + b"\1", _AVID + b"\2"),  # beginnings
)


def changes_of_sample(private: bytes, sample: bytes) -> Iterator[Change]:
    """Yield the changes of a frame: comments and application data become an empty APP15, but for what decoders use."""
    if not sample.startswith(START):
        return
    ended = 0  # the offset after the last complete field
    for segment in segments(memoryview(sample)):
        if ended and segment.marker != SOI:
            break
        ended = segment.offset + 2 if segment.marker == EOI else 0
        if APP0 <= segment.marker <= _APP15 or segment.marker == _COM:
            needed = _needed(segment.marker, bytes(segment.payload))
            head = bytes((segment.marker if needed else _APP15,)) + bytes(segment.whole[2:4])
            yield from change(sample, segment.offset + 1, head + needed.ljust(len(segment.payload), b"\0"))
    if ended and sample[ended:].strip(b"\0\xff"):
        yield ended, bytes(len(sample) - ended)


def changes_of_private(private: bytes) -> Iterator[Change]:
    """Return nothing: this coding has no configuration."""
    return iter(())


def _needed(marker: int, content: bytes) -> bytes:
    """Return what stays of a comment (its instruction), or of application data (all or nothing)."""
    if marker == _COM:
        comment = (_AVID + content[12:] if content.startswith(b"AVID") else content).removesuffix(b"\n") + b"\0"
        return next((each for each in _INSTRUCTIONS if comment.startswith(each)), b"")[: len(content)]
    most = [most for (needed, start), most in _NEEDED.items() if needed == marker and content.startswith(start)]
    return content if len(content) <= max(most, default=-1) else b""
