"""Content credentials: found where C2PA has them, removed by the scrub, and valid where nothing else was removed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mediascrub import Credentials, Format, MediaKind, read_picture

from .made_files import picture, saved
from .signed import (
    MIME_TYPES,
    jpeg_segments,
    manifest_of,
    sign,
    validate,
    with_manifest,
)
from .videos import DATA, apply_patches, examine_bytes, ffmpeg

PRIVATE = {
    Format.JPEG: "jpeg-portrait-orientation-6.jpg",
    Format.PNG: "png-exif-gps-text.png",
    Format.GIF: "polyglot-gif-js.gif",
    Format.WEBP: "webp-orientation-6.webp",
    Format.AVIF: "avif-animated-exif-gps-xmp.avif",
    Format.HEIC: "heic-still-portrait.heic",
    Format.MP4: "mp4-h264-udta-xyz-location.mp4",
    Format.MOV: "mov-h264.mov",
}
MANIFEST = manifest_of()


@cache
def private(fmt: Format) -> bytes:
    """Return a file with private data."""
    if fmt in PRIVATE:
        return (DATA / PRIVATE[fmt]).read_bytes()
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{fmt}"
        ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", "-metadata", "title=THE-LEAK", path)
        return path.read_bytes()


def scrubbed(data: bytes, fmt: Format) -> tuple[bytes, Credentials | None]:
    """Return what the scrub makes of a file, and the credentials of the file."""
    if fmt.kind is MediaKind.IMAGE:
        found = read_picture(memoryview(data), fmt)
        return found.original, found.credentials
    plan = examine_bytes(data, fmt)
    return apply_patches(plan.patches, data), plan.credentials


def manifest_in(data: bytes, credentials: Credentials | None) -> bytes:
    assert credentials is not None
    return b"".join(data[part.offset : part.end] for part in credentials.manifest)


@pytest.mark.parametrize("fmt", MIME_TYPES, ids=str)
def test_a_signed_file_without_anything_else_that_is_private_can_stay_as_it_is(fmt: Format) -> None:
    clean, _ = scrubbed(private(fmt), fmt)
    signed, manifest = sign(clean, fmt)
    without, credentials = scrubbed(signed, fmt)
    assert credentials is not None
    assert credentials.alone
    assert manifest_in(signed, credentials) == manifest
    assert validate(signed, fmt) == "Valid"
    assert manifest not in without
    assert scrubbed(without, fmt) == (without, None)


@pytest.mark.parametrize("fmt", MIME_TYPES, ids=str)
def test_the_manifest_of_a_file_with_private_data_can_be_kept_beside_it(fmt: Format) -> None:
    signed, manifest = sign(private(fmt), fmt)
    without, credentials = scrubbed(signed, fmt)
    assert credentials is not None
    assert not credentials.alone
    assert manifest_in(signed, credentials) == manifest
    assert validate(without, fmt, manifest) == "Invalid"


def test_a_simple_webp_has_its_manifest_behind_the_picture() -> None:
    clean, _ = scrubbed(saved(picture(), "WEBP"), Format.WEBP)
    signed, manifest = sign(clean, Format.WEBP, thumbnail=True)
    without, credentials = scrubbed(signed, Format.WEBP)
    assert credentials is not None
    assert (without, manifest_in(signed, credentials), credentials.alone) == (clean, manifest, True)
    broken = signed.replace(b"C2PA", b"C2PA\xff\xff\xff\xff", 1)
    assert scrubbed(broken, Format.WEBP) == (clean, None)


@pytest.mark.parametrize("fmt", MIME_TYPES, ids=str)
@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        MANIFEST[:20],
        MANIFEST.replace(b"jumd", b"jume"),
        MANIFEST.replace(b"c2pa\0\x11", b"c2ma\0\x11"),
        b"\0\0\0\1" + MANIFEST[4:8] + len(MANIFEST).to_bytes(8, "big") + MANIFEST[8:],
    ],
    ids=["empty", "cut off", "no description", "another type", "a long length"],
)
def test_other_data_in_the_place_of_a_manifest_is_private_like_any(fmt: Format, manifest: bytes) -> None:
    clean, _ = scrubbed(private(fmt), fmt)
    found, credentials = scrubbed(with_manifest(clean, fmt, MANIFEST), fmt)
    assert manifest_in(with_manifest(clean, fmt, MANIFEST), credentials) == MANIFEST
    without, credentials = scrubbed(with_manifest(clean, fmt, manifest), fmt)
    assert credentials is None
    assert without == found or fmt.kind is not MediaKind.IMAGE


@pytest.mark.parametrize("fmt", MIME_TYPES, ids=str)
@pytest.mark.parametrize("manifest", [MANIFEST[:-1], MANIFEST + b"\0", b"\0\0\0\0" + MANIFEST[4:]], ids=repr)
def test_a_damaged_manifest_is_reported_and_cannot_be_kept(fmt: Format, manifest: bytes) -> None:
    clean, _ = scrubbed(private(fmt), fmt)
    without, credentials = scrubbed(with_manifest(clean, fmt, manifest), fmt)
    assert credentials is not None
    assert (credentials.manifest, credentials.size_bytes, credentials.alone) == ((), 0, False)
    assert b"jumb" not in without


@pytest.mark.parametrize("fmt", [Format.AVIF, Format.HEIC, Format.MP4, Format.MOV, Format.M4A], ids=str)
def test_a_box_with_hashes_of_fragments_is_not_a_manifest(fmt: Format) -> None:
    clean, _ = scrubbed(private(fmt), fmt)
    assert scrubbed(with_manifest(clean, fmt, MANIFEST, purpose=b"merkle"), fmt)[1] is None


def test_the_parts_of_a_manifest_in_a_jpeg_are_joined_by_their_numbers() -> None:
    clean, _ = scrubbed(saved(picture(), "JPEG"), Format.JPEG)
    other = manifest_of(b"x" * 300).replace(b"c2pa\0\x11", b"cext\0\x11")
    parts = jpeg_segments(manifest_of(bytes(range(256))), number=1, part_bytes=100)
    strange = jpeg_segments(other, number=2, part_bytes=100)
    data = clean[:2] + b"".join((parts[0], strange[0], *reversed(parts[1:]), *strange[1:])) + clean[2:]
    without, credentials = scrubbed(data, Format.JPEG)
    assert credentials is not None
    assert manifest_in(data, credentials) == manifest_of(bytes(range(256)))
    assert (without, credentials.alone) == (clean, False)
    without, credentials = scrubbed(data.replace(parts[2], b""), Format.JPEG)
    assert credentials is not None
    assert (without, credentials.manifest) == (clean, ())


def test_many_parts_take_bounded_memory() -> None:
    clean, _ = scrubbed(saved(picture(), "JPEG"), Format.JPEG)
    segments = b"".join(jpeg_segments(manifest_of(bytes(40_000)), part_bytes=32))
    without, credentials = scrubbed(clean[:2] + segments + clean[2:], Format.JPEG)
    assert credentials is not None
    assert (without, credentials.manifest, len(credentials.carriers)) == (clean, (), 1024)
