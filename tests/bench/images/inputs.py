"""The pictures that both sides make thumbnails of, all from one photograph of a phone, made the same on every run."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

PHOTOGRAPH = Path(__file__).parents[2] / "data" / "jpeg-dog-12mp-6.jpg"  # 4032 x 3024, turned by EXIF, sRGB profile


@dataclass(frozen=True)
class Input:
    """One picture.

    ``goal`` is the share of the CPU time of sharp, used with one decode, that we want to stay below; None: shown
    for the record.
    """

    name: str
    format: str
    data: bytes
    goal: float | None


def make_inputs(*, quick: bool = False) -> list[Input]:
    """12 MP JPEG (with orientation, and with the profile as shot), 3 MP PNG, 6 MP WebP; ``quick``: a 2 MP JPEG."""
    shot = PHOTOGRAPH.read_bytes()
    photograph = Image.open(io.BytesIO(shot)).convert("RGB")
    if quick:
        return [_two_megapixels(photograph)]
    lanczos = Image.Resampling.LANCZOS
    return [
        Input("12 MP JPEG", "jpeg", _without_profile(shot), 0.75),
        Input("12 MP JPEG with ICC profile", "jpeg", shot, None),
        Input("3 MP PNG", "png", _saved(photograph.resize((2048, 1536), lanczos), "PNG"), 1.0),
        Input("6 MP WebP", "webp", _saved(photograph.resize((2828, 2121), lanczos), "WEBP"), 0.9),
    ]


def small_jpeg() -> bytes:
    """640 x 480, as chats and avatars have them."""
    return _saved(Image.open(PHOTOGRAPH).convert("RGB").resize((640, 480), Image.Resampling.LANCZOS), "JPEG")


def make_job_inputs(*, quick: bool = False) -> list[Input]:
    """What a whole job is measured on: a 2 MP JPEG as messengers send them, and the pictures above without profiles.

    ``quick``: only the first.
    """
    if quick:
        return make_inputs(quick=True)
    jpeg, _with_profile, png, webp = make_inputs()
    photograph = Image.open(io.BytesIO(jpeg.data)).convert("RGB")
    return [_two_megapixels(photograph), jpeg, png, webp]


def _two_megapixels(photograph: Image.Image) -> Input:
    small = photograph.resize((1632, 1224), Image.Resampling.LANCZOS)
    return Input("2 MP JPEG", "jpeg", _saved(small, "JPEG"), None)


def _saved(image: Image.Image, format_name: str) -> bytes:
    image.info.clear()
    out = io.BytesIO()
    image.save(out, format_name, quality=80)
    return out.getvalue()


def _without_profile(jpeg: bytes) -> bytes:
    """The same JPEG without its APP2 segments: colour conversion costs sharp more than all the rest."""
    kept, position = [jpeg[:2]], 2
    while jpeg[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        if jpeg[position + 1] != 0xE2:
            kept.append(jpeg[position:end])
        position = end
    return b"".join((*kept, jpeg[position:]))
