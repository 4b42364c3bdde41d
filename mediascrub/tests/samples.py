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

from mediascrub import Format

DATA = Path(__file__).parent / "data"
_MAX_FRAMES_COMPARED = 40
_EXIFTOOL_TIMEOUT_S = 60

PICTURES: dict[str, Format] = {
    "apng-animated.png": Format.PNG,
    "avif-animated-exif-gps-xmp.avif": Format.AVIF,
    "avif-irot-imir.avif": Format.AVIF,
    "avif-still.avif": Format.AVIF,
    "bomb-gif-10k-frames-16x16.gif": Format.GIF,
    "gif-animated.gif": Format.GIF,
    "heic-iphone7plus-gps-p3.heic": Format.HEIC,
    "heic-still-portrait.heic": Format.HEIC,
    "heic-xiaomi-gps.heic": Format.HEIC,
    "jpeg-apple-gainmap-mpf-p3.jpg": Format.JPEG,
    "jpeg-cmyk.jpg": Format.JPEG,
    "jpeg-dog-12mp-6.jpg": Format.JPEG,
    "jpeg-exif-thumbnail-differs.jpg": Format.JPEG,
    "jpeg-gray.jpg": Format.JPEG,
    "jpeg-motion-photo.jpg": Format.JPEG,
    "jpeg-named.tiff": Format.JPEG,
    **{f"jpeg-orientation-{orientation}.jpg": Format.JPEG for orientation in range(1, 9)},
    "jpeg-pixel4a-gps-gainmap.jpg": Format.JPEG,
    "jpeg-portrait-orientation-6.jpg": Format.JPEG,
    "jpeg-portrait-orientation-8.jpg": Format.JPEG,
    "jpeg-progressive.jpg": Format.JPEG,
    "mpo-stereo.mpo": Format.JPEG,
    "png-16bit.png": Format.PNG,
    "png-alpha-large.png": Format.PNG,
    "png-display-p3-patch.png": Format.PNG,
    "png-exif-gps-text.png": Format.PNG,
    "png-named.jpg": Format.PNG,
    "polyglot-gif-js.gif": Format.GIF,
    "polyglot-jpeg-html.jpg": Format.JPEG,
    "polyglot-jpeg-zip.jpg": Format.JPEG,
    "webp-alpha.webp": Format.WEBP,
    "webp-animated.webp": Format.WEBP,
    "webp-lossy-icc.webp": Format.WEBP,
    "webp-orientation-6.webp": Format.WEBP,
}
"""Valid pictures."""

DAMAGED: dict[str, Format] = {
    "bomb-gif-65535x66601.gif": Format.GIF,
    "bomb-jpeg-sof-65500x65500.jpg": Format.JPEG,
    "bomb-png-header-lies-60000x60000.png": Format.PNG,
    "bomb-png-ztxt.png": Format.PNG,
    "bomb-webp-16383x16383-lossless.webp": Format.WEBP,
    "fuzz-firefox-chrome-leak.jpg": Format.JPEG,
    "jpeg-truncated-half.jpg": Format.JPEG,
    "png-truncated-half.png": Format.PNG,
}
"""Bombs, and files that are cut off."""

BROKEN: dict[str, Format] = {"heic-corrupted.heic": Format.HEIC, "jpeg-corrupt-header.jpg": Format.JPEG}


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


def decode(content: bytes, fmt: Format) -> Decoded:
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


def _open(content: bytes, fmt: Format) -> Image.Image:
    if fmt is Format.HEIC:
        pictures = pillow_heif.open_heif(content)
        return pictures[pictures.primary_index].to_pillow()  # type: ignore[no-any-return]
    return Image.open(io.BytesIO(content), formats=[fmt.value, "MPO"] if fmt is Format.JPEG else [fmt.value])


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
