"""From whatever colours a picture is in to sRGB.

Conversion is relative colorimetric with black point compensation: neutral tones stay neutral, what lies outside sRGB
is clipped. (Perceptual was rejected: matrix profiles, which is nearly all, have no such table, and the perceptual
tables of CMYK profiles differ by vendor.) A profile that is broken, or of another kind than the pixels, is ignored, as
browsers do. Nothing of a profile is kept from one picture to the next.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageCms

from avion_media.media.image.icc import (
    Primaries,
    gamma_curve,
    hlg_curve,
    matrix_profile,
    pq_curve,
    srgb_curve,
)

_D65 = (0.3127, 0.3290)
BT709_PRIMARIES: Primaries = (_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))

# ITU-T H.273, table 2. What is not here is taken as BT.709: unspecified, or of no use in pictures.
_PRIMARIES: dict[int, Primaries] = {
    5: (_D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}

# ITU-T H.273, table 3. What is not here (BT.709 and its likes, unspecified) is shown as sRGB, as browsers do.
_TRANSFERS: dict[int, Callable[[float], float]] = {
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    8: gamma_curve(1.0),
    16: pq_curve,
    18: hlg_curve,
}

_PROFILE_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_PROBE_LEVELS = (0, 26, 77, 128, 179, 230, 255)
_INVISIBLE = 2  # of 255: a profile that moves no colour further than this is sRGB under another name


@dataclass(frozen=True, slots=True)
class IccProfile:
    """Colours by an embedded ICC profile."""

    data: bytes


@dataclass(frozen=True, slots=True)
class CodePoints:
    """Colours by the code points of ITU-T H.273."""

    primaries: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """Colours by measured primaries and the exponent of a power law."""

    primaries: Primaries
    exponent: float


Colour = IccProfile | CodePoints | Chromaticities


class SrgbConversion:
    """The way of pixels of one ``mode`` (L, RGB or CMYK) to sRGB, prepared once for one picture.

    ``needed`` is False when the pixels are sRGB already, or a profile says nothing that can be followed.
    """

    def __init__(self, colour: Colour | None, mode: str) -> None:
        self._mode = mode
        self._transform = _transform(colour, mode) if colour is not None else None
        self.needed = self._transform is not None or mode == "CMYK"

    def apply(self, image: Image.Image) -> Image.Image:
        """``image`` in sRGB: L stays L, all else becomes RGB. CMYK without a profile is taken as plain inks.

        An RGB ``image`` is changed in place.
        """
        if self._transform is None:
            return image.convert("RGB") if self._mode == "CMYK" else image
        if self._mode == "RGB":
            ImageCms.applyTransform(image, self._transform, inPlace=True)
            return image
        converted = _applied(image, self._transform)
        return converted.convert("L") if self._mode == "L" else converted


def _transform(colour: Colour, mode: str) -> ImageCms.ImageCmsTransform | None:
    profile_bytes = _profile_of(colour, mode)
    if profile_bytes is None:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if profile.profile.xcolor_space != _PROFILE_SPACES[mode]:
            return None
        if mode == "RGB" and _is_srgb(profile):
            return None
        return _build(profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # a broken profile


def _build(profile: ImageCms.ImageCmsProfile, mode: str, extra: ImageCms.Flags | int = 0) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | extra,
    )


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether the profile moves none of 343 colours visibly: most embedded profiles are sRGB, in hundreds of variants.

    Without optimisation such a transform is built five times faster than one for a whole picture.
    """
    levels = [bytes((red, green, blue)) for red in _PROBE_LEVELS for green in _PROBE_LEVELS for blue in _PROBE_LEVELS]
    probe = Image.frombytes("RGB", (len(levels), 1), b"".join(levels))
    moved = _applied(probe, _build(profile, "RGB", ImageCms.Flags.NOOPTIMIZE))
    return max(ImageChops.difference(probe, moved).tobytes()) <= _INVISIBLE


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    if converted is None:  # Pillow's type allows for inPlace=True
        raise ValueError("no picture came out of the colour transform")
    return converted


def _profile_of(colour: Colour, mode: str) -> bytes | None:
    """The colour as an ICC profile; None when it is sRGB, or cannot be one."""
    if isinstance(colour, IccProfile):
        return colour.data
    if mode != "RGB":
        return None
    if isinstance(colour, CodePoints):
        primaries, curve = _PRIMARIES.get(colour.primaries), _TRANSFERS.get(colour.transfer)
        if primaries is None and curve is None:
            return None
        return matrix_profile(primaries or BT709_PRIMARIES, curve or srgb_curve)
    # 2.2 is what encoders write for sRGB, whose own curve it only approximates.
    curve = srgb_curve if abs(colour.exponent - 2.2) < 0.02 else gamma_curve(colour.exponent)
    try:
        return matrix_profile(colour.primaries, curve)
    except ValueError:
        return None  # numbers that describe no colours
