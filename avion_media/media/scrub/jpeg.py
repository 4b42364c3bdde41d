"""JPEG: tables, frame and scans stay; of the application segments only what tells a decoder the colours.

Kept are JFIF (density, without thumbnail), Adobe's colour transform, the ICC profile and, rewritten, orientation and
the Adobe RGB mark of Exif. No JFIF segment is added where there was none: it would turn RGB data into YCbCr.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from avion_media.media.exif import EXIF_PREFIX, ExifFacts, minimal_exif, read_exif
from avion_media.media.scrub.icc import neutral_profile
from avion_media.media.scrub.structure import corrupt

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_DHT, _DAC, _DQT, _DNL, _DRI = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD
# C8 is reserved.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, _DAC}
_TABLES = frozenset((_DHT, _DAC, _DQT, _DRI))
_DNL_BYTES = 2

# Anything else is data inside a scan (a stuffed zero, a restart, a reserved code, over which a decoder
# resynchronises) and skipped outside of one, as decoders do.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")

_JFIF, _JFIF_BYTES = b"JFIF\x00", 14
_ADOBE, _ADOBE_BYTES = b"Adobe", 12
_ICC, _ICC_HEADER_BYTES = b"ICC_PROFILE\x00", 14
_MAX_ICC_CHUNKS = 255


@dataclass(frozen=True, slots=True)
class _Segment:
    marker: int
    payload: memoryview
    whole: memoryview  # marker, length and payload; of a scan its coded data too


@dataclass(slots=True)
class _Kept:
    """What goes before the frame, put together again at the end."""

    jfif: bytes = b""
    adobe: bytes = b""
    exif: ExifFacts | None = None
    icc_chunks: list[memoryview] = field(default_factory=list)
    picture: bytearray = field(default_factory=bytearray)


def scrub_jpeg(view: memoryview) -> bytes:
    """See `scrub_image`. Ends with EOI, except where the bytes ran out before one."""
    if bytes(view[:2]) != _START:
        raise corrupt("no SOI")
    kept = _Kept()
    frame_seen = scan_seen = ended = False
    for segment in _segments(view):
        if scan_seen and (segment.marker in (_EOI, _SOI) or segment.marker in _FRAMES):
            # Another picture begins (or this one ends): a decoder stops here.
            ended = True
            break
        if segment.marker in _FRAMES:
            if frame_seen:
                raise corrupt("two frames before a scan")
            frame_seen = True
        elif segment.marker == _SOS:
            if not frame_seen:
                raise corrupt("a scan before the frame")
            scan_seen = True
        elif segment.marker == _EOI:
            break
        _keep(segment, kept, scan_seen)
    if not scan_seen:
        raise corrupt("no scan")
    return _assemble(kept, ended)


def _segments(view: memoryview) -> Iterator[_Segment]:
    """All segments; one that is cut off or says it is shorter than its own length field is the end."""
    offset = 2
    while found := _MARKER.search(view, offset):
        start, body = found.start(), found.end()
        marker = view[body - 1]
        if marker in (_SOI, _EOI):
            yield _Segment(marker, view[body:body], view[start:body])
            offset = body
            continue
        end = body + int.from_bytes(view[body : body + 2], "big")
        if end < body + 2 or end > len(view):
            return
        payload = view[body + 2 : end]
        if marker == _SOS:
            scan_end = _MARKER.search(view, end)
            end = scan_end.start() if scan_end else len(view)
        yield _Segment(marker, payload, view[start:end])
        offset = end


def _keep(segment: _Segment, kept: _Kept, scan_seen: bool) -> None:
    marker, payload = segment.marker, segment.payload
    if (
        marker in _FRAMES
        or marker in _TABLES
        or marker == _SOS
        or (marker == _DNL and scan_seen and len(payload) == _DNL_BYTES)
    ):
        kept.picture += segment.whole
    elif scan_seen:
        # Decoders read application data up to the first scan.
        return
    elif marker == _APP0 and payload[:5] == _JFIF and len(payload) >= _JFIF_BYTES:
        kept.jfif = bytes(payload[: _JFIF_BYTES - 2]) + b"\x00\x00"
    elif marker == _APP14 and payload[:5] == _ADOBE and len(payload) >= _ADOBE_BYTES:
        kept.adobe = bytes(payload[:_ADOBE_BYTES])
    elif marker == _APP1 and payload[:6] == EXIF_PREFIX and kept.exif is None:
        kept.exif = read_exif(payload)
    elif marker == _APP2 and payload[:12] == _ICC and len(kept.icc_chunks) < _MAX_ICC_CHUNKS:
        kept.icc_chunks.append(payload)


def _assemble(kept: _Kept, ended: bool) -> bytes:
    icc_chunks = _profile_chunks(kept.icc_chunks)
    facts = kept.exif or ExifFacts()
    if icc_chunks:
        # An embedded profile goes before the mark.
        facts = ExifFacts(facts.orientation)
    exif = minimal_exif(facts)
    out = bytearray(_START)
    if kept.jfif:
        out += _segment(_APP0, kept.jfif)
    if exif:
        out += _segment(_APP1, EXIF_PREFIX + exif)
    for chunk in icc_chunks:
        out += _segment(_APP2, chunk)
    if kept.adobe:
        out += _segment(_APP14, kept.adobe)
    out += kept.picture
    if ended:
        out += _END
    return bytes(out)


def _profile_chunks(chunks: list[memoryview]) -> list[bytes]:
    """The chunks with what stays of their profile, in order: of each the sequence number is byte 12."""
    if any(len(chunk) < _ICC_HEADER_BYTES for chunk in chunks):
        return []
    in_order = sorted(chunks, key=lambda chunk: chunk[12])
    profile = io.BytesIO(neutral_profile(b"".join(chunk[_ICC_HEADER_BYTES:] for chunk in in_order)))
    if not profile.getbuffer():
        return []
    return [bytes(chunk[:_ICC_HEADER_BYTES]) + profile.read(len(chunk) - _ICC_HEADER_BYTES) for chunk in in_order]


def _segment(marker: int, payload: bytes | memoryview) -> bytes:
    return bytes((0xFF, marker)) + (2 + len(payload)).to_bytes(2, "big") + payload
