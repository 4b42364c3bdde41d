"""Files of one length, of which each is told from the others by its colour: what the signature lets through."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from PIL import Image

from mediascrub import Format, plan_movie
from mediascrub.sparse import SparseFile
from mediascrub.tests.made_files import box, jpeg_segment, original_of
from mediascrub.tests.videos import apply_patches

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200)}


def same_length(bodies: Mapping[str, bytes], pad: bytes) -> int:
    """The length of the longest and room for a padding each (``pad`` is one of no content)."""
    return max(map(len, bodies.values())) + len(pad)


@cache
def pictures() -> dict[str, bytes]:
    """JPEGs, each with a comment that makes them equally long."""
    plain = {}
    for name, colour in COLOURS.items():
        out = io.BytesIO()
        Image.new("RGB", (320, 240), colour).save(out, "JPEG", quality=90)
        plain[name] = out.getvalue()
    length = same_length(plain, jpeg_segment(0xFE, b""))
    return {
        name: data[:2] + jpeg_segment(0xFE, name[:1].encode() * (length - len(data) - 4)) + data[2:]
        for name, data in plain.items()
    }


@cache
def videos(length: int) -> dict[str, bytes]:
    """MP4s, each with a private box that makes them so long: large enough to be patched inside the store."""
    return {name: _video(colour, length) for name, colour in COLOURS.items()}


def _video(colour: tuple[int, int, int], length: int) -> bytes:
    source = f"color=0x{bytes(colour).hex()}:size=320x240:rate=5:duration=1"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.mp4"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, str(path)], check=True, timeout=60)
        data = path.read_bytes()
    return data + box(b"uuid", (bytes(colour) * length)[: length - len(data) - 8])


def page(length: int) -> bytes:
    """What must never be served: active content of that length."""
    return b"<!DOCTYPE html><script>alert(1)</script>".ljust(length)


def scrubbed_picture(data: bytes) -> bytes:
    """What may be served of a picture."""
    return original_of(data, Format.JPEG)


def scrubbed_video(data: bytes) -> bytes:
    """What may be served of a video."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        plan = plan_movie(SparseFile(file.fileno(), len(data)), Format.MP4)
    return apply_patches(plan.patches, data)


def colour_of(jpeg: bytes) -> str:
    """The name of the colour that a thumbnail has."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        mean = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert isinstance(mean, tuple)
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], mean, strict=True)))
