"""AVIF and HEIC: their libraries parse the boxes without decoding, and we ask those.

AVIF comes with Pillow (libavif), and is kept to the thread that it is called on. HEIC needs pillow_heif (libheif),
which is optional and imported only when a HEIC is at hand; without it HEIC is UNSUPPORTED_TYPE. Its HEVC decoder starts
a thread per tile whatever it is told, so a sandbox must allow threads, and must have loaded pillow_heif before it
closes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import AvifImagePlugin, ExifTags, Image

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.image.colour import CodePoints, Colour, IccProfile
from avion_media.media.image.isobmff import still_code_points, still_extent, track_duration_s
from avion_media.media.image.outline import Outline
from avion_media.media.scrub.icc import MAX_ICC_BYTES

AvifImagePlugin.DEFAULT_MAX_THREADS = 1
_LIBAVIF_MAX_SIDE, _LIBAVIF_MAX_PIXELS = 32_768, 16_384 * 16_384  # avifDecoder.imageDimensionLimit, .imageSizeLimit


def _no_picture() -> Image.Image:
    raise ValueError("this outline was not opened by a decoder")


@dataclass(frozen=True, slots=True)
class HeifOutline(Outline):
    """``decode`` makes the picture of what the library has parsed; it raises whatever the library raises."""

    decode: Callable[[], Image.Image] = _no_picture


def walk_avif(data: bytes, _max_frames: int) -> HeifOutline:
    """Outline an AVIF, still or sequence. Rotation is that of ``irot`` and ``imir``; EXIF does not count."""
    try:
        opened = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    except Exception:  # anything, and no decoder knows why: an absurd size has a reason of its own
        width, height = still_extent(data) or (0, 0)
        if max(width, height) <= _LIBAVIF_MAX_SIDE and width * height <= _LIBAVIF_MAX_PIXELS:
            raise
        return HeifOutline(width=width, height=height)

    def decode() -> Image.Image:
        opened.load()
        return opened

    return HeifOutline(
        width=opened.width,
        height=opened.height,
        orientation=_orientation(opened.info),
        frames=opened.n_frames,
        duration_s=track_duration_s(data) if opened.n_frames > 1 else 0.0,
        colour=_icc(opened.info) or still_code_points(data),
        decode=decode,
    )


def _orientation(info: Mapping[Any, Any]) -> int:
    """That of the boxes, which Pillow puts into the Exif of the file if that says otherwise, as Pillow reads it."""
    exif = Image.Exif()
    exif.load(info.get("exif", b""))
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return int(orientation) if 1 <= orientation <= 8 else 1


def walk_heic(data: bytes, _max_frames: int) -> HeifOutline:
    """Outline a HEIC: its primary picture, in the size that libheif gives it (rotated, mirrored, cropped)."""
    try:
        import pillow_heif
    except ImportError as error:
        raise Rejected(Reason.UNSUPPORTED_TYPE, "pillow_heif is not installed") from error
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    file = pillow_heif.HeifFile(io.BytesIO(data), convert_hdr_to_8bit=True)
    opened = file[file.primary_index]

    def decode() -> Image.Image:
        picture = opened.to_pillow()
        if not isinstance(picture, Image.Image):
            raise TypeError("libheif gave no picture")
        return picture

    return HeifOutline(
        width=opened.size[0],
        height=opened.size[1],
        colour=_icc(opened.info) or _code_points(opened.info),
        decode=decode,
    )


def _icc(info: Mapping[Any, Any]) -> Colour | None:
    profile = info.get("icc_profile")
    return IccProfile(profile) if profile and len(profile) <= MAX_ICC_BYTES else None


def _code_points(info: Mapping[Any, Any]) -> Colour | None:
    nclx = info.get("nclx_profile")
    return CodePoints(int(nclx["color_primaries"]), int(nclx["transfer_characteristics"])) if nclx else None
