"""From a video's coded colours to RGB, and what these RGB values stand for.

ffmpeg only undoes the matrix (luma and chroma) and the range. Transfer and primaries of HDR and of a wide gamut stay:
`thumbnails.colour` converts them as it does those of stills, so that the same light has the same value in both.
Without HDR or a wide gamut nothing is converted: browsers show BT.709 code values as if they were sRGB, and a poster
must look like the video that it stands for.
"""

from __future__ import annotations

from typing import Final

from avion_media.media.formats.picture import CodePoints
from avion_media.media.poster.probe import VideoProbe

# ffmpeg's words → ITU-T H.273's code points
_HDR_TRANSFERS: Final = {"smpte2084": 16, "arib-std-b67": 18}
_WIDE_PRIMARIES: Final = {"bt2020": 9, "smpte431": 11, "smpte432": 12}
_BT709, _BT2020 = 1, 9
# ffmpeg's words → swscale's
_MATRICES: Final = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "smpte170m",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
}
_HD_HEIGHT: Final = 720  # without a word on its matrix, browsers take smaller video for BT.601 and larger for BT.709
_SCALING: Final = "bicubic+accurate_rnd+full_chroma_int"
_RGB: Final = ("gbr", "rgb", "bgr", "0rgb", "argb", "abgr")


def colour_of(probe: VideoProbe) -> CodePoints | None:
    """What the RGB values of a frame stand for, where that is not sRGB. HDR without primaries is BT.2020."""
    transfer = _HDR_TRANSFERS.get(probe.transfer, _BT709)
    unsaid = _BT709 if probe.primaries == "bt709" or transfer == _BT709 else _BT2020
    primaries = _WIDE_PRIMARIES.get(probe.primaries, unsaid)
    return None if primaries == transfer == _BT709 else CodePoints(primaries, transfer)


def scaled_rgb(probe: VideoProbe, width: int, height: int) -> dict[str, str | int]:
    """Options of ffmpeg's ``scale``, which makes the coded picture RGB of ``width`` x ``height``."""
    options: dict[str, str | int] = {"w": width, "h": height, "flags": _SCALING}
    if probe.pix_fmt.startswith(_RGB):
        return options
    guessed = "bt709" if probe.coded_height >= _HD_HEIGHT else "smpte170m"
    if probe.transfer in _HDR_TRANSFERS and probe.primaries in {"bt2020", ""}:
        guessed = "bt2020"
    return options | {"in_color_matrix": _MATRICES.get(probe.matrix, guessed)}
