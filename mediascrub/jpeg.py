"""JPEG: tables, frame and scans stay, and of the application segments only what a decoder needs for the colours.

Kept are JFIF (density, without thumbnail), Adobe's colour transform, the ICC profile and, rewritten, orientation and
the Adobe RGB mark of Exif. No JFIF segment is added where there was none: it would turn RGB data into YCbCr.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mediascrub.credentials import Credentials, begins_manifest, find_credentials
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.exif import EXIF_PREFIX, ExifFacts, minimal_exif, read_exif
from mediascrub.formats import Format
from mediascrub.icc import neutral_parts
from mediascrub.picture import MAX_PEEKED_PARTS, IccProfile, Peek, Picture, bounded_parts
from mediascrub.ranges import Range

START, END = b"\xff\xd8", b"\xff\xd9"
SOI, EOI, _SOS = 0xD8, 0xD9, 0xDA
APP0, _APP1, APP2, APP11, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xEE
_DHT, _DAC, _DQT, _DNL, _DRI = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
_DECODED = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended and progressive: what browsers decode
_PROGRESSIVE = 0xC2
# Each scan is a pass over the whole picture, and a hostile one takes 75 bytes. libjpeg writes 10 of YCbCr, and of other
# pictures 2 and 4 for each component (jcparam.c), so any picture may have those; small ones may have more.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 14 << 26
# C8 is reserved.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}
_OF_THE_PICTURE = _FRAMES | {_DHT, _DAC, _DQT, _DRI, _SOS}
_DNL_BYTES = 2

# Anything else is data inside a scan (a stuffed zero, a restart, or a reserved code, after which a decoder
# resynchronises). Outside of a scan it is skipped, as decoders do.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_JFIF, _JFIF_BYTES = b"JFIF\x00", 14
_ADOBE, _ADOBE_BYTES = b"Adobe", 12
ICC_PREFIX, _ICC_HEADER_BYTES = b"ICC_PROFILE\x00", 14
_MAX_ICC_CHUNKS = 255
# A part of a JUMBF box: the identifier, the number of the box, the number of the part, length and type of the box.
_JUMBF, _JUMBF_HEADER_BYTES, _JUMBF_BOX_HEADER_BYTES = b"JP", 8, 8
_MAX_JUMBF_PARTS = 1024  # 64 MiB, if they are as long as they can be


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker and its data, at ``offset`` in the file."""

    marker: int
    offset: int
    payload: memoryview
    whole: memoryview  # marker, length and payload; for a scan also its coded data


@dataclass(slots=True)
class _Kept:
    """The parts to keep. Those before the frame are joined at the end."""

    jfif: bytes = b""
    adobe: bytes = b""
    exif: ExifFacts | None = None
    icc_chunks: list[memoryview] = field(default_factory=list)
    jumbf: list[Segment] = field(default_factory=list)
    xmp: bytes | memoryview = b""
    picture: bytearray = field(default_factory=bytearray)
    frame: Segment | None = None
    scans: int = 0
    components: int = 0  # of the first scan
    ended: bool = False


def peek(head: bytes) -> Peek | None:
    """See `PictureFormat`."""
    for segment in islice(segments(memoryview(head)), MAX_PEEKED_PARTS):
        if segment.marker in _DECODED and len(segment.payload) >= 5:
            return Peek(*_size(segment), whole=segment.marker == _PROGRESSIVE)
    return None


def read(view: memoryview) -> Picture:
    """See `PictureFormat`. Of an MPO it is the first picture. The original ends with EOI, unless the file ends before.

    Lossless, arithmetic and 12-bit JPEGs are UNSUPPORTED.
    """
    if bytes(view[:2]) != START:
        raise corrupt("no SOI")
    kept = _Kept()
    for _, segment in zip(bounded_parts(), segments(view), strict=False):
        if segment.marker == EOI or (kept.scans and (segment.marker == SOI or segment.marker in _FRAMES)):
            # Another picture begins, or this one ends. A decoder stops here.
            kept.ended = True
            break
        if segment.marker in _FRAMES:
            _check_frame(segment, kept)
            kept.frame = segment
        elif segment.marker == _SOS:
            if not kept.scans and segment.payload:
                kept.components = segment.payload[0]
            kept.scans += 1
        _keep(segment, kept)
        _check_scans(kept)
    if kept.frame is None or not kept.scans:
        raise corrupt("no frame or no scan")
    return _picture(kept, kept.frame, view)


def _check_frame(frame: Segment, kept: _Kept) -> None:
    if kept.frame is not None:
        raise corrupt("two frames before a scan")
    if frame.marker not in _DECODED:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"JPEG process SOF{frame.marker - 0xC0}")
    if len(frame.payload) < 6:
        raise corrupt("the frame header is too short")
    if frame.payload[0] != 8:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"JPEG with {frame.payload[0]} bits per sample")


def _check_scans(kept: _Kept) -> None:
    pixels, components = (math.prod(_size(kept.frame)), kept.frame.payload[5]) if kept.frame else (0, 0)
    is_usual = kept.scans <= 2 + 4 * min(components, 4)
    if not is_usual and (kept.scans > _MAX_SCANS or kept.scans * pixels > _MAX_SCANNED_PIXELS):
        raise ScrubError(ScrubCode.UNSUPPORTED, f"{kept.scans} scans of {pixels} pixels")


def _size(frame: Segment) -> tuple[int, int]:
    return int.from_bytes(frame.payload[3:5], "big"), int.from_bytes(frame.payload[1:3], "big")


def _picture(kept: _Kept, frame: Segment, view: memoryview) -> Picture:
    width, height = _size(frame)
    icc_chunks = _profile_chunks(kept.icc_chunks)
    facts = kept.exif or ExifFacts()
    # Scans that hold parts of the picture (progressive ones always do) make the decoder keep all its coefficients.
    whole = frame.marker == _PROGRESSIVE or kept.components != frame.payload[5]
    # An embedded profile has precedence over the mark of Adobe RGB.
    exif = minimal_exif(ExifFacts(facts.orientation) if icc_chunks else facts)
    profile = [(APP2, chunk) for chunk in icc_chunks]
    before = [(APP0, kept.jfif), (_APP1, EXIF_PREFIX + exif if exif else b""), *profile, (APP14, kept.adobe)]
    head = b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data for marker, data in before if data)
    original = b"".join((START, head, kept.picture, END if kept.ended else b""))
    return Picture(
        format=Format.JPEG,
        width=width,
        height=height,
        orientation=facts.orientation,
        colour=IccProfile(b"".join(chunk[_ICC_HEADER_BYTES:] for chunk in icc_chunks)) if icc_chunks else None,
        original=original,
        still=original,
        whole=whole,
        reduction=8,
        ycbcr=_is_ycbcr(frame.payload, kept),
        xmp=kept.xmp,
        credentials=_credentials(kept.jumbf, original, view),
    )


def _is_ycbcr(frame: memoryview, kept: _Kept) -> bool:
    """Return whether libjpeg will take three components as YCbCr: the clear cases of its rule, without its guesses."""
    if frame[5] != 3 or len(frame) < 15:
        return False
    if kept.jfif:
        return True
    if kept.adobe:
        return kept.adobe[11] == 1
    return (frame[6], frame[9], frame[12]) == (1, 2, 3)


def segments(view: memoryview) -> Iterator[Segment]:
    """Yield all segments, up to one that is cut off or shorter than its own length field."""
    offset = 2
    while found := _MARKER.search(view, offset):
        start, body = found.start(), found.end()
        marker = view[body - 1]
        if marker in (SOI, EOI):
            yield Segment(marker, start, view[body:body], view[start:body])
            offset = body
            continue
        end = body + int.from_bytes(view[body : body + 2], "big")
        if end < body + 2 or end > len(view):
            return
        payload = view[body + 2 : end]
        if marker == _SOS:
            scan_end = _MARKER.search(view, end)
            end = scan_end.start() if scan_end else len(view)
        yield Segment(marker, start, payload, view[start:end])
        offset = end


def _keep(segment: Segment, kept: _Kept) -> None:
    marker, payload = segment.marker, segment.payload
    if marker in _OF_THE_PICTURE or (marker == _DNL and kept.scans and len(payload) == _DNL_BYTES):
        kept.picture += segment.whole
    elif kept.scans:
        # Decoders read application data up to the first scan.
        return
    elif marker == APP0 and payload[:5] == _JFIF and len(payload) >= _JFIF_BYTES:
        kept.jfif = bytes(payload[: _JFIF_BYTES - 2]) + b"\x00\x00"
    elif marker == APP14 and payload[:5] == _ADOBE and len(payload) >= _ADOBE_BYTES:
        kept.adobe = bytes(payload[:_ADOBE_BYTES])
    elif marker == _APP1 and payload[:6] == EXIF_PREFIX and kept.exif is None:
        kept.exif = read_exif(payload)
    elif marker == _APP1 and payload[: len(XMP_PREFIX)] == XMP_PREFIX and not kept.xmp:
        kept.xmp = payload[len(XMP_PREFIX) :]
    elif marker == APP2 and payload[:12] == ICC_PREFIX and len(kept.icc_chunks) < _MAX_ICC_CHUNKS:
        kept.icc_chunks.append(payload)
    elif marker == APP11 and payload[:2] == _JUMBF and len(kept.jumbf) < _MAX_JUMBF_PARTS:
        kept.jumbf.append(segment)


def _profile_chunks(chunks: list[memoryview]) -> list[bytes]:
    """Return the chunks with the part of their profile to keep, in order. Byte 12 of a chunk is its number."""
    if any(len(chunk) < _ICC_HEADER_BYTES for chunk in chunks):
        return []
    in_order = sorted(chunks, key=lambda chunk: chunk[12])
    parts = neutral_parts([chunk[_ICC_HEADER_BYTES:] for chunk in in_order])
    return [bytes(chunk[:_ICC_HEADER_BYTES]) + part for chunk, part in zip(in_order, parts, strict=False)]


def _credentials(parts: list[Segment], original: bytes, view: memoryview) -> Credentials | None:
    """Return the first manifest among the JUMBF boxes.

    Each part of a box has its number, and the parts but the first repeat the header of the box (ISO/IEC 19566-5, D.2).
    """
    for first in parts:
        box = first.payload[_JUMBF_HEADER_BYTES:]
        if begins_manifest(box):
            of_box = [each for each in parts if each.payload[2:4] == first.payload[2:4]]
            of_box.sort(key=lambda each: bytes(each.payload[4:8]))
            skipped = [_JUMBF_HEADER_BYTES] + [_JUMBF_HEADER_BYTES + _JUMBF_BOX_HEADER_BYTES] * (len(of_box) - 1)
            contents = [each.payload[skip:] for each, skip in zip(of_box, skipped, strict=True)]
            ends = [each.offset + len(each.whole) for each in of_box]
            manifest = [Range(end - len(content), len(content)) for end, content in zip(ends, contents, strict=True)]
            carriers = [Range(each.offset, len(each.whole)) for each in of_box]
            return find_credentials(view, manifest, carriers, lambda rest: rest == original)
    return None
