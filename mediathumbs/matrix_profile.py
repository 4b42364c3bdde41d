"""Makes ICC profiles (ICC.1:2001-04) of a matrix and one tone curve, for colours that a file describes by numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

from mediascrub.picture import Point, Primaries

Vector = tuple[float, float, float]
Matrix = tuple[Vector, ...]

_D50: Vector = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_CURVE_POINTS = 1024
_SDR_WHITE_NITS = 203.0  # ITU-R BT.2408: graphics white in an HDR signal
_KNEE = 0.7  # below this share of SDR white an HDR picture is not changed; above it, highlights are rolled off


def matrix_profile(primaries: Primaries, curve: Callable[[float], float]) -> bytes:
    """Return a profile with this ``curve``, from samples in 0..1 to linear light. `ValueError` if there is no gamut."""
    columns = _colorants(primaries)
    points = [min(65535, max(0, round(65535 * curve(index / (_CURVE_POINTS - 1))))) for index in range(_CURVE_POINTS)]
    tone = b"curv\0\0\0\0" + struct.pack(f">I{_CURVE_POINTS}H", _CURVE_POINTS, *points)
    names = (b"wtpt", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC")
    contents = (*(b"XYZ \0\0\0\0" + _s15fixed16(each) for each in (_D50, *columns)), tone, tone, tone)
    offset = 128 + 4 + 12 * len(names)
    table, body = b"", b""
    for name, content in zip(names, contents, strict=True):
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI12s48x",
        offset + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"\0" * 12, b"acsp", b"\0" * 4,
        0, 0, 0, 0, 0, _s15fixed16(_D50),
    )  # fmt: skip
    return header + struct.pack(">I", len(names)) + table + body


def gamma_curve(exponent: float) -> Callable[[float], float]:
    """Return a function from samples to linear light, by a pure power law."""
    return lambda sample: float(sample**exponent)


def srgb_curve(sample: float) -> float:
    """Return the linear light of an sRGB sample (IEC 61966-2-1)."""
    return sample / 12.92 if sample <= 0.04045 else float(((sample + 0.055) / 1.055) ** 2.4)


def pq_curve(sample: float) -> float:
    """Return the SDR light of a PQ sample (SMPTE ST 2084), with highlights rolled off."""
    power = sample ** (1 / 78.84375)
    nits = 10_000 * (max(0.0, power - 0.8359375) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
    return _roll_off(nits / _SDR_WHITE_NITS)


def hlg_in_sdr(red: float, green: float, blue: float) -> Vector:
    """Return HLG (ITU-R BT.2100) on a display of 1000 nits as SDR samples of gamma 2.4, with highlights rolled off."""
    scene = list(map(_hlg_scene, (red, green, blue)))
    luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    red, green, blue = (_roll_off(1000 * luminance**0.2 * light / _SDR_WHITE_NITS) ** (1 / 2.4) for light in scene)
    return (red, green, blue)


def _hlg_scene(sample: float) -> float:
    return sample**2 / 3 if sample <= 0.5 else (math.exp((sample - 0.55991073) / 0.17883277) + 0.28466892) / 12


def _roll_off(light: float) -> float:
    if light <= _KNEE:
        return light
    return _KNEE + (1 - _KNEE) * (1 - math.exp((_KNEE - light) / (1 - _KNEE)))


def _colorants(primaries: Primaries) -> Sequence[Vector]:
    """Return the XYZ of full red, green and blue, adapted to D50, the white of the profile connection space."""
    white, *full = map(_to_xyz, primaries)
    drive = _times(_inverted(tuple(zip(*full, strict=True))), white)
    return [_adapted((x * share, y * share, z * share), white) for (x, y, z), share in zip(full, drive, strict=True)]


def _adapted(colour: Vector, white: Vector) -> Vector:
    """Return the colour that looks under D50 as ``colour`` does under ``white``."""
    cones, of, to = (_times(_BRADFORD, each) for each in (colour, white, _D50))
    if min(map(abs, of)) < 1e-6:
        raise ValueError("the white point is no colour")
    a, b, c = (cone * target / source for cone, source, target in zip(cones, of, to, strict=True))
    return _times(_inverted(_BRADFORD), (a, b, c))


def _to_xyz(point: Point) -> Vector:
    x, y = point
    if y < 1e-6:
        raise ValueError("a chromaticity with y of zero")
    return (x / y, 1.0, (1 - x - y) / y)


def _times(matrix: Matrix, vector: Vector) -> Vector:
    a, b, c = (sum(factor * value for factor, value in zip(row, vector, strict=True)) for row in matrix)
    return (a, b, c)


def _inverted(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(determinant) < 1e-9:
        raise ValueError("the primaries lie on one line")
    return (
        ((e * i - f * h) / determinant, (c * h - b * i) / determinant, (b * f - c * e) / determinant),
        ((f * g - d * i) / determinant, (a * i - c * g) / determinant, (c * d - a * f) / determinant),
        ((d * h - e * g) / determinant, (b * g - a * h) / determinant, (a * e - b * d) / determinant),
    )


def _s15fixed16(vector: Vector) -> bytes:
    if max(map(abs, vector)) > 32_000:
        raise ValueError("a colorant out of all proportion")
    return struct.pack(">3i", *(round(value * 65536) for value in vector))
