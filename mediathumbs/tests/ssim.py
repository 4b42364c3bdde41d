"""Structural similarity (Wang et al. 2004) of luma, with windows of 8 x 8 pixels at every position."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Plane = npt.NDArray[np.float64]

_WINDOW = 8
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma_ssim(one: Image.Image, other: Image.Image) -> float:
    """1.0 for equal pictures; both must have the same size."""
    a, b = (np.asarray(image.convert("L"), dtype=np.float64) for image in (one, other))
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    covariance = _windowed(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (var_a + var_b + _C2)
    return float((luminance * structure).mean())


def _windowed(plane: Plane) -> Plane:
    """The mean of every window, by differences of a running sum."""
    total = np.cumsum(np.cumsum(np.pad(plane, ((1, 0), (1, 0))), axis=0), axis=1)
    w = _WINDOW
    return (total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]) / (w * w)
