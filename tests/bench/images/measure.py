"""Thumbnails against sharp, as figures."""

from __future__ import annotations

from statistics import fmean

from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.images.compare import Comparison, compare
from tests.bench.images.inputs import make_inputs
from tests.bench.images.webp import measure_webp
from tests.bench.setting import Setting, install_node_packages

# As printed: less is below the noise of any eye, and of a JPEG's one bit more or less.
_SSIM_DIGITS = 3
_PEAK_MIB = 96


def measure(setting: Setting) -> list[Figure]:
    """CPU, mean SSIM of the three sizes, and peak memory, for each picture; what WebP beside JPEG costs and saves."""
    # A round of the small picture is less than the noise of a start.
    rounds, repeats = (10, 1) if setting.quick else (8, 5)
    install_node_packages()
    pictures = make_inputs(quick=setting.quick)
    figures = [figure for picture in pictures for figure in _figures(compare(picture, rounds, repeats))]
    return figures + measure_webp(pictures[0], repeats)


def _figures(found: Comparison) -> list[Figure]:
    name = f"thumbnails, {found.name}"
    goal = None if found.goal is None else Goal(found.goal)
    ssim = [round(fmean(side.ssim.values()), _SSIM_DIGITS) for side in (found.ours, found.sharp)]
    return [
        Pairs(found.times_ms).figure(name, "CPU ms"),
        Pairs(found.cascade_times_ms).figure(f"{name}, one decode each", "CPU ms", goal),
        Pairs([(ssim[0], ssim[1])]).figure(name, "SSIM", goal and Goal(1.0, at_least=True)),
        Pairs([(found.ours.peak_rss_mib, found.sharp.peak_rss_mib)]).figure(
            f"{name}, peak RSS", "MiB", goal and Goal(_PEAK_MIB, of="ours")
        ),
    ]
