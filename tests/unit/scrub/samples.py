"""The sample pictures that must come out clean, and what an independent reader says of a picture."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pillow_heif
from PIL import Image, ImageCms

from avion_media.common.formats import AVIF, GIF, HEIC, JPEG, PNG, WEBP, MediaFormat

DATA = Path(__file__).parents[2] / "data"
_MAX_FRAMES_COMPARED = 40
_EXIFTOOL_TIMEOUT_S = 60

PICTURES: dict[str, MediaFormat] = {
    "apng-animated.png": PNG,
    "avif-animated-exif-gps-xmp.avif": AVIF,
    "avif-irot-imir.avif": AVIF,
    "avif-still.avif": AVIF,
    "bomb-gif-10k-frames-16x16.gif": GIF,
    "gif-animated.gif": GIF,
    "heic-iphone7plus-gps-p3.heic": HEIC,
    "heic-still-portrait.heic": HEIC,
    "heic-xiaomi-gps.heic": HEIC,
    "jpeg-apple-gainmap-mpf-p3.jpg": JPEG,
    "jpeg-cmyk.jpg": JPEG,
    "jpeg-dog-12mp-6.jpg": JPEG,
    "jpeg-exif-thumbnail-differs.jpg": JPEG,
    "jpeg-gray.jpg": JPEG,
    "jpeg-motion-photo.jpg": JPEG,
    "jpeg-named.tiff": JPEG,
    **{f"jpeg-orientation-{orientation}.jpg": JPEG for orientation in range(1, 9)},
    "jpeg-pixel4a-gps-gainmap.jpg": JPEG,
    "jpeg-portrait-orientation-6.jpg": JPEG,
    "jpeg-portrait-orientation-8.jpg": JPEG,
    "jpeg-progressive.jpg": JPEG,
    "mpo-stereo.mpo": JPEG,
    "png-16bit.png": PNG,
    "png-alpha-large.png": PNG,
    "png-display-p3-patch.png": PNG,
    "png-exif-gps-text.png": PNG,
    "png-named.jpg": PNG,
    "polyglot-gif-js.gif": GIF,
    "polyglot-jpeg-html.jpg": JPEG,
    "polyglot-jpeg-zip.jpg": JPEG,
    "webp-alpha.webp": WEBP,
    "webp-animated.webp": WEBP,
    "webp-lossy-icc.webp": WEBP,
    "webp-orientation-6.webp": WEBP,
}
"""Valid pictures."""

DAMAGED: dict[str, MediaFormat] = {
    "bomb-gif-65535x66601.gif": GIF,
    "bomb-jpeg-sof-65500x65500.jpg": JPEG,
    "bomb-png-header-lies-60000x60000.png": PNG,
    "bomb-png-ztxt.png": PNG,
    "bomb-webp-16383x16383-lossless.webp": WEBP,
    "fuzz-firefox-chrome-leak.jpg": JPEG,
    "jpeg-truncated-half.jpg": JPEG,
    "png-truncated-half.png": PNG,
}
"""Bombs, and files that are cut off."""

BROKEN: dict[str, MediaFormat] = {"heic-corrupted.heic": HEIC, "jpeg-corrupt-header.jpg": JPEG}


@dataclass(frozen=True)
class Frame:
    """One decoded frame, as stored: orientation is not applied."""

    mode: str
    size: tuple[int, int]
    pixels: bytes
    duration_ms: object


@dataclass(frozen=True)
class Decoded:
    """What Pillow (or libheif) makes of a picture. Profiles are alike when they show the same ``colours``."""

    frames: tuple[Frame, ...]
    icc_profile: bytes | None = field(compare=False)
    colours: tuple[bytes, ...]
    orientation: int
    loop: object


def decode(content: bytes, fmt: MediaFormat) -> Decoded:
    """Decode with the library that belongs to the format. An MPO counts as its first picture."""
    with _open(content, fmt) as image:
        count = 1 if image.format == "MPO" else min(getattr(image, "n_frames", 1), _MAX_FRAMES_COMPARED)
        frames = tuple(_frames(image, count))
        return Decoded(
            frames,
            image.info.get("icc_profile"),
            colours(image.info.get("icc_profile")),
            image.getexif().get(0x0112, 1),
            image.info.get("loop"),
        )


def colours(profile: bytes | None) -> tuple[bytes, ...]:
    """What Little CMS makes of samples all over a profile's space, for each rendering intent; empty when it refuses."""
    if profile is None:
        return ()
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}[opened.profile.xcolor_space]
        levels = itertools.product(range(0, 256, 51), repeat=len(Image.new(mode, (1, 1)).getbands()))
        samples = bytes(itertools.chain.from_iterable(levels))
        probe = Image.frombytes(mode, (len(samples) // len(Image.new(mode, (1, 1)).getbands()), 1), samples)
        target = ImageCms.createProfile("sRGB")
        transforms = (
            ImageCms.buildTransform(opened, target, mode, "RGB", intent, flags)
            for intent in ImageCms.Intent
            for flags in (ImageCms.Flags.NONE, ImageCms.Flags.BLACKPOINTCOMPENSATION)
        )
        return tuple(_shown(probe, transform) for transform in transforms)
    except (ImageCms.PyCMSError, OSError):
        return ()


def _shown(probe: Image.Image, transform: ImageCms.ImageCmsTransform) -> bytes:
    shown = ImageCms.applyTransform(probe, transform)
    assert shown is not None
    return shown.tobytes()


def _open(content: bytes, fmt: MediaFormat) -> Image.Image:
    if fmt is HEIC:
        return pillow_heif.open_heif(content)[0].to_pillow()  # type: ignore[no-any-return]
    return Image.open(io.BytesIO(content), formats=[fmt.name, "MPO"] if fmt is JPEG else [fmt.name])


def _frames(image: Image.Image, count: int) -> Iterator[Frame]:
    for number in range(count):
        if count > 1:
            image.seek(number)
        yield Frame(image.mode, image.size, image.tobytes(), image.info.get("duration"))


def exiftool(*files: Path) -> dict[str, dict[str, Any]]:
    """All tags of each file by its name, unknown and duplicate ones too, as ``group:tag``."""
    command = ["exiftool", "-json", "-G1", "-a", "-u", "-ee", *map(str, files)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=_EXIFTOOL_TIMEOUT_S)
    return {Path(each["SourceFile"]).name: each for each in json.loads(result.stdout)}
