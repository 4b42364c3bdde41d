"""The structure of a JPEG file: its segments up to the first scan."""

from __future__ import annotations

from dataclasses import dataclass

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.image.colour import Colour, IccProfile
from avion_media.media.image.exif import orientation_of
from avion_media.media.image.outline import MAX_ICC_BYTES, Outline, bounded_parts

_SOF_HUFFMAN = frozenset((0xC0, 0xC1, 0xC2))  # baseline, extended and progressive: what browsers decode
_SOF_OTHER = frozenset((0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
_EOI, _SOS = 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_ICC_PREFIX = b"ICC_PROFILE\0"


@dataclass(frozen=True, slots=True)
class JpegOutline(Outline):
    """``ycbcr``: the three components are surely luma and chroma, so the decoder need not make RGB of them."""

    ycbcr: bool = False


def walk_jpeg(data: bytes, _max_frames: int) -> JpegOutline:
    """Outline a JPEG (of an MPO its first picture). Lossless, arithmetic and 12-bit ones are UNSUPPORTED_TYPE."""
    if data[:3] != b"\xff\xd8\xff":
        raise Rejected(Reason.CORRUPT, "no JPEG signature")
    frame: bytes | None = None
    jfif = False
    adobe_transform: int | None = None
    exif = b""
    icc_parts: dict[int, bytes] = {}
    for marker, segment in _segments(data):
        if marker in _SOF_HUFFMAN:
            frame = segment
        elif marker in _SOF_OTHER:
            raise Rejected(Reason.UNSUPPORTED_TYPE, f"JPEG process SOF{marker - 0xC0}")
        elif marker == _APP0 and segment[:5] == b"JFIF\0":
            jfif = True
        elif marker == _APP1 and segment[:5] == b"Exif\0" and not exif:
            exif = segment
        elif marker == _APP2 and segment[:12] == _ICC_PREFIX and len(segment) > 14:
            icc_parts[segment[12]] = segment[14:]
        elif marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe_transform = segment[11]
    if frame is None or len(frame) < 6:
        raise Rejected(Reason.CORRUPT, "no JPEG frame header before the scan")
    if frame[0] != 8:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"JPEG with {frame[0]} bits per sample")
    return JpegOutline(
        width=int.from_bytes(frame[3:5], "big"),
        height=int.from_bytes(frame[1:3], "big"),
        orientation=orientation_of(exif),
        colour=_icc(icc_parts),
        ycbcr=_is_ycbcr(frame, jfif, adobe_transform),
    )


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of each segment before the first scan."""
    segments = []
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
            break
        elif marker == _EOI:
            raise Rejected(Reason.CORRUPT, "JPEG without a scan")
        else:
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            if length < 2:
                raise Rejected(Reason.CORRUPT, "JPEG segment shorter than its length field")
            segments.append((marker, data[position + 4 : position + 2 + length]))
            position += 2 + length
    return segments


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
