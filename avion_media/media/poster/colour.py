"""From a video's colours to sRGB, as filters for a frame that is already small.

Three cases. HDR (PQ, HLG) is made linear, moved to BT.709's primaries, tone-mapped, and encoded as sRGB. A wide gamut
without HDR only changes its primaries. Everything else is a change of matrix: browsers show BT.709 code values as if
they were sRGB, and a poster must look like the video that it stands for.
"""

from __future__ import annotations

from typing import Final

from avion_media.media.poster.probe import VideoProbe

Filter = tuple[str, dict[str, str | int]]

# ffmpeg's words → zimg's
_HDR_TRANSFERS: Final = {"smpte2084": "smpte2084", "arib-std-b67": "arib-std-b67"}
_WIDE_PRIMARIES: Final = {"bt2020": "2020", "smpte431": "smpte431", "smpte432": "smpte432"}
_MATRICES: Final = {"bt2020nc": "2020_ncl", "bt2020c": "2020_cl", "bt709": "709", "ictcp": "ictcp", "gbr": "gbr"}
_SWSCALE_MATRICES: Final = {
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
# Linear 1.0 is 100 cd/m². Hable's curve keeps the light parts (skies) apart; a fixed peak of 1000 cd/m² instead of
# the stream's own claim keeps the result the same for every frame and every liar.
_LINEAR_709: Final[dict[str, str | int]] = {"t": "linear", "npl": 100, "p": "709", "m": "gbr", "r": "pc"}
_TONE_MAP: Final[Filter] = ("tonemap", {"tonemap": "hable", "desat": 0, "peak": 10})


def to_srgb(probe: VideoProbe, width: int, height: int) -> list[Filter]:
    """Scale the coded picture to ``width`` x ``height`` and make it RGB (sRGB, not yet in its final byte order)."""
    if _is_rgb(probe):
        return [("scale", {"w": width, "h": height, "flags": _SCALING})]
    if probe.transfer in _HDR_TRANSFERS:
        return [*_shrink(width, height), *_tone_mapped(probe)]
    if probe.primaries in _WIDE_PRIMARIES:
        return [*_shrink(width, height), *_narrowed(probe)]
    guessed = "bt709" if probe.coded_height >= _HD_HEIGHT else "smpte170m"
    matrix = _SWSCALE_MATRICES.get(probe.matrix, guessed)
    options: dict[str, str | int] = {"w": width, "h": height, "flags": _SCALING, "in_color_matrix": matrix}
    return [("scale", options)]


def _shrink(width: int, height: int) -> list[Filter]:
    """Scale first, in the video's own encoding: what follows computes in floats, 16 bytes and more a pixel."""
    return [("scale", {"w": width, "h": height, "flags": _SCALING}), ("format", {"pix_fmts": "yuv444p16le"})]


def _tone_mapped(probe: VideoProbe) -> list[Filter]:
    return [
        ("zscale", _source(probe, _HDR_TRANSFERS[probe.transfer]) | _LINEAR_709),
        ("format", {"pix_fmts": "gbrpf32le"}),
        _TONE_MAP,
        ("zscale", {"tin": "linear", "pin": "709", "min": "gbr", "rin": "pc", "t": "iec61966-2-1"}),
        ("format", {"pix_fmts": "gbrp"}),
    ]


def _narrowed(probe: VideoProbe) -> list[Filter]:
    """The transfer stays what it is in name: in and out by the same curve, so that greys do not change."""
    return [
        ("zscale", _source(probe, "709") | {"t": "709", "p": "709", "m": "gbr", "r": "pc"}),
        ("format", {"pix_fmts": "gbrp"}),
    ]


def _source(probe: VideoProbe, transfer: str) -> dict[str, str | int]:
    """What the input is, said explicitly: zimg refuses to guess what a stream leaves open."""
    default_matrix = "2020_ncl" if probe.primaries in {"bt2020", ""} else "709"
    return {
        "tin": transfer,
        "min": _MATRICES.get(probe.matrix, default_matrix),
        "pin": _WIDE_PRIMARIES.get(probe.primaries, "709" if probe.primaries == "bt709" else "2020"),
        "rin": "pc" if probe.color_range == "pc" else "tv",
    }


def _is_rgb(probe: VideoProbe) -> bool:
    return probe.pix_fmt.startswith(("gbr", "rgb", "bgr", "0rgb", "argb", "abgr"))
