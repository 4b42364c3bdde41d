"""Real files under names that lie: what they are is in their first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediascrub.sniffing import HEAD_BYTES, sniff

DATA = Path(__file__).parent / "data"
BY_EXTENSION = {
    "avif": "avif",
    "gif": "gif",
    "heic": "heic",
    "jpg": "jpeg",
    "mov": "mov",
    "mp4": "mp4",
    "mpo": "jpeg",
    "png": "png",
    "webm": "webm",
    "webp": "webp",
}
OTHERWISE = {
    "bmp.bmp": "bmp",
    "hls-ssrf-named.mp4": "hls",
    "html-named.jpg": "html",
    "jpeg-named.tiff": "jpeg",
    "jxl.jxl": "jxl",
    "pdf.pdf": "pdf",
    "png-named.jpg": "png",
    "random-bytes.mp4": "unknown",
    "svg-named.png": "svg",
    "svg-script.svg": "svg",
    "zero-byte.jpg": "empty",
    "zip-named.jpg": "zip",
}
HONEST = [
    "apng-animated.png",
    "avif-animated-exif-gps-xmp.avif",
    "avif-still.avif",
    "gif-animated.gif",
    "heic-corrupted.heic",
    "heic-iphone7plus-gps-p3.heic",
    "heic-still-portrait.heic",
    "jpeg-gray.jpg",
    "jpeg-motion-photo.jpg",
    "mov-external-dref-alis.mov",
    "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov",
    "mp4-audio-only.mp4",
    "mp4-av1.mp4",
    "mp4-init-segment-no-frames.mp4",
    "mpo-stereo.mpo",
    "polyglot-gif-js.gif",
    "polyglot-jpeg-zip.jpg",
    "webm-vp8.webm",
    "webp-animated.webp",
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [*((name, BY_EXTENSION[name.rpartition(".")[2]]) for name in HONEST), *OTHERWISE.items()],
)
def test_a_file_is_what_its_first_bytes_say(name: str, expected: str) -> None:
    path = DATA / name
    with path.open("rb") as file:
        assert sniff(file.read(HEAD_BYTES), size=path.stat().st_size).name == expected
