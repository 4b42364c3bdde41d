"""Converts the colours of a picture to sRGB.

The conversion is relative colorimetric with black point compensation: neutral tones stay neutral, and colours outside
sRGB are clipped. (Perceptual was rejected: matrix profiles, which are nearly all, have no table for it, and those of
CMYK profiles differ by vendor.) A broken profile, or one for another kind of pixels, is ignored, as in browsers.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

from PIL import Image, ImageChops, ImageCms, ImageFilter

from mediascrub.picture import BT709_PRIMARIES, D65, HLG, PQ, Chromaticities, CodePoints, Colour, IccProfile
from mediathumbs.matrix_profile import gamma_curve, hlg_in_sdr, matrix_profile, pq_curve, srgb_curve

# ITU-T H.273, table 2. Other values count as BT.709: they are unspecified, or not used in pictures.
_PRIMARIES = {
    5: (D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    **dict.fromkeys((6, 7), (D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070))),
    9: (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: (D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}

# ITU-T H.273, table 3. Other values (BT.709 and the like, unspecified) are shown as sRGB, as in browsers.
_TRANSFERS: dict[int, Callable[[float], float]] = {
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    8: gamma_curve(1.0),
    PQ: pq_curve,
    HLG: gamma_curve(2.4),  # after `hlg_in_sdr`: its gamma depends on the luminance, not on one channel
}
_HLG_POINTS = 25  # of a table, for each channel: interpolation is less than 2 of 255 off

_PROFILE_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
# 343 colours. Most embedded profiles are sRGB, in hundreds of variants.
_PROBE = bytes(level for colour in itertools.product((0, 26, 77, 128, 179, 230, 255), repeat=3) for level in colour)
_BROKEN_PROFILE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
_INVISIBLE = 2  # of 255: a profile that changes no colour by more than this is sRGB under another name


def is_srgb(colour: Colour | None) -> bool:
    """Return whether RGB pixels of this colour can stay: it is sRGB, under any name, or an unusable profile."""
    try:
        profile = _profile_of(colour, "RGB")
        if profile is None:
            return True
        # Without optimisation, a transform is built in a fifth of the time.
        transform = _transform(profile, "RGB", ImageCms.Flags.NOOPTIMIZE)
        probe = Image.frombytes("RGB", (len(_PROBE) // 3, 1), _PROBE)
        return max(ImageChops.difference(probe, transform.apply(probe)).tobytes()) <= _INVISIBLE
    except _BROKEN_PROFILE:
        return True


def to_srgb(image: Image.Image, colour: Colour | None) -> Image.Image:
    """Return a picture of mode L, RGB or CMYK in sRGB: L as L, the others as RGB. RGB can be changed in place."""
    try:
        if image.mode == "L" and isinstance(colour, CodePoints | Chromaticities):
            return to_srgb(image.convert("RGB"), colour).convert("L")
        profile = _profile_of(colour, image.mode)
        transform = None if profile is None else _transform(profile, image.mode)
    except _BROKEN_PROFILE:
        transform = None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    if image.mode == "RGB":
        if isinstance(colour, CodePoints) and colour.transfer == HLG:
            image = image.filter(ImageFilter.Color3DLUT.generate(_HLG_POINTS, hlg_in_sdr))
        return transform.apply_in_place(image)
    converted = transform.apply(image)
    return converted.convert("L") if image.mode == "L" else converted


def _transform(profile: ImageCms.ImageCmsProfile, mode: str, extra: int = 0) -> ImageCms.ImageCmsTransform:
    srgb, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | extra
    return ImageCms.buildTransform(profile, srgb, mode, "RGB", intent, flags)


def _profile_of(colour: Colour | None, mode: str) -> ImageCms.ImageCmsProfile | None:
    """Return the colour as a profile for pixels of ``mode``; None if it is sRGB by name, or for other pixels."""
    data = colour.data if isinstance(colour, IccProfile) else _matrix_profile(colour) if mode == "RGB" else None
    if data is None:
        return None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    return profile if profile.profile.xcolor_space == _PROFILE_SPACES[mode] else None


def _matrix_profile(colour: CodePoints | Chromaticities | None) -> bytes | None:
    """Return an ICC profile for colours given by numbers; None for none or sRGB. Raises `ValueError` if impossible."""
    if isinstance(colour, CodePoints):
        primaries, curve = _PRIMARIES.get(colour.primaries), _TRANSFERS.get(colour.transfer)
        if primaries is None and curve is None:
            return None
        return matrix_profile(primaries or BT709_PRIMARIES, curve or srgb_curve)
    if isinstance(colour, Chromaticities):
        # Encoders write 2.2 for sRGB, although it only approximates the curve of sRGB.
        near_srgb = abs(colour.exponent - 2.2) < 0.02
        return matrix_profile(colour.primaries, srgb_curve if near_srgb else gamma_curve(colour.exponent))
    return None
