"""The structure of a JPEG file: its segments up to the first scan, of which the decoder gets those it decodes by."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.exif import EXIF_PREFIX, read_exif
from avion_media.media.image.colour import Colour, IccProfile
from avion_media.media.image.outline import Outline, bounded_parts
from avion_media.media.scrub.icc import MAX_ICC_BYTES

_SOF_HUFFMAN = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended and progressive: what browsers decode
_SOF_OTHER = frozenset((0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
# 0x02 to 0xBF are reserved: whoever goes on there, as the scrub does, looks for the next marker.
_WITHOUT_LENGTH = frozenset((*range(0x01, 0xC0), *range(0xD0, 0xD9)))
_SOF_PROGRESSIVE = 0xC2
_EOI, _SOS = 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_DECODED_BY = _SOF_HUFFMAN | frozenset((0xC4, 0xDB, 0xDD))  # Huffman, quantisation, restart interval
_ICC_PREFIX = b"ICC_PROFILE\0"
_MAX_SCANS = 100  # encoders write ten; each costs a pass over the whole picture, and a hostile one takes 75 bytes
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JpegOutline(Outline):
    """``ycbcr``: the three components are surely luma and chroma, so the decoder need not make RGB of them.

    ``held_whole``: its scans hold parts of the picture (progressive ones always do), so the decoder keeps all its
    coefficients until the last scan.
    """

    ycbcr: bool = False
    held_whole: bool = False

    @property
    def decoded_bytes(self) -> int:
        """It is shrunk on its way, by 8 at most."""
        return self.width * self.height * 3 // 64


def walk_jpeg(data: bytes, _max_frames: int) -> JpegOutline:
    """Outline a JPEG (of an MPO its first picture). Lossless, arithmetic and 12-bit ones are UNSUPPORTED_TYPE."""
    if data[:3] != b"\xff\xd8\xff":
        raise Rejected(Reason.CORRUPT, "no JPEG signature")
    frame: bytes | None = None
    progressive = False
    jfif = False
    adobe_transform: int | None = None
    exif = b""
    icc_parts: dict[int, bytes] = {}
    segments, scan = _segments(data)
    kept = [data[:2]]
    for marker, segment in segments:
        if marker in _SOF_HUFFMAN:
            frame, progressive = segment, marker == _SOF_PROGRESSIVE
        elif marker in _SOF_OTHER:
            raise Rejected(Reason.UNSUPPORTED_TYPE, f"JPEG process SOF{marker - 0xC0}")
        elif marker == _APP0 and segment[:5] == b"JFIF\0":
            jfif = True
        elif marker == _APP1 and segment[:6] == EXIF_PREFIX and not exif:
            exif = segment
        elif marker == _APP2 and segment[:12] == _ICC_PREFIX and len(segment) > 14:
            icc_parts[segment[12]] = segment[14:]
        elif marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe_transform = segment[11]
        if marker in _DECODED_BY or (marker == _APP0 and jfif) or (marker == _APP14 and adobe_transform is not None):
            kept.append(struct.pack(">BBH", 0xFF, marker, len(segment) + 2) + segment)
    if data.count(b"\xff\xda", scan) > _MAX_SCANS:  # quick, and counts too much rather than too little
        _check_scans(data, scan)
    if frame is None or len(frame) < 6:
        raise Rejected(Reason.CORRUPT, "no JPEG frame header before the scan")
    if frame[0] != 8:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"JPEG with {frame[0]} bits per sample")
    return JpegOutline(
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        orientation=read_exif(memoryview(exif)).orientation,
        colour=_icc(icc_parts),
        pixels=b"".join((*kept, data[scan:])),
        ycbcr=_is_ycbcr(frame, jfif, adobe_transform),
        held_whole=progressive or data[scan + 4 : scan + 5] != frame[5:6],
    )


def _segments(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Marker and content of each segment before the first scan, and where that begins."""
    segments: list[tuple[int, bytes]] = []
    position = 2
    for _ in bounded_parts(100_000):
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            raise Rejected(Reason.CORRUPT, "JPEG ends before its scan")
        marker = data[position + 1]
        if marker in (0x00, 0xFF):  # stuffing, fill bytes
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker == _SOS:
            return segments, position
        elif marker == _EOI:
            raise Rejected(Reason.CORRUPT, "JPEG without a scan")
        else:
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            if length < 2:
                raise Rejected(Reason.CORRUPT, "JPEG segment shorter than its length field")
            segments.append((marker, data[position + 4 : position + 2 + length]))
            position += 2 + length
    raise AssertionError("bounded_parts raises when it ends")


def _check_scans(data: bytes, position: int) -> None:
    """CORRUPT when there are too many scans before the picture's end; what is appended to it does not count."""
    scans = 0
    while (found := _MARKER.search(data, position)) and found[0][1] != _EOI:
        scans += found[0][1] == _SOS
        if scans > _MAX_SCANS:
            raise Rejected(Reason.CORRUPT, f"JPEG of more than {_MAX_SCANS} scans")
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))


def _icc(parts: dict[int, bytes]) -> Colour | None:
    profile = b"".join(parts[number] for number in sorted(parts))
    return IccProfile(profile) if 0 < len(profile) <= MAX_ICC_BYTES else None


def _is_ycbcr(frame: bytes, jfif: bool, adobe_transform: int | None) -> bool:
    """Whether libjpeg will take three components as YCbCr: the clear cases of its own rule, and no guess."""
    if frame[5] != 3 or len(frame) < 15:
        return False
    if jfif:
        return True
    if adobe_transform is not None:
        return adobe_transform == 1
    return (frame[6], frame[9], frame[12]) == (1, 2, 3)
