"""Pictures come out upright, turned exactly once, whatever carries the orientation."""

from __future__ import annotations

import io
import struct

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageOps

from mediascrub import Format
from mediascrub.bounds import PictureBounds
from mediascrub.exif import read_exif

from .made import (
    DATA,
    TO_STORED,
    assert_quadrants,
    chunk,
    exif_with_orientation,
    inspect_image,
    original_of,
    quadrants,
    saved,
    thumbnail_of,
    with_chunks,
)

ORIENTATIONS = range(1, 9)


def stored(orientation: int) -> Image.Image:
    method = TO_STORED[orientation]
    return quadrants() if method is None else quadrants().transpose(method)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_jpeg(orientation: int) -> None:
    data = saved(stored(orientation), "JPEG", quality=95, exif=b"Exif\0\0" + exif_with_orientation(orientation))
    thumbnail = thumbnail_of(data, Format.JPEG)
    assert thumbnail.size == (96, 64)
    assert_quadrants(thumbnail)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_png(orientation: int) -> None:
    data = with_chunks(saved(stored(orientation), "PNG"), chunk(b"eXIf", exif_with_orientation(orientation)))
    assert_quadrants(thumbnail_of(data, Format.PNG))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_in_a_webp(orientation: int) -> None:
    data = saved(stored(orientation), "WEBP", lossless=True, exif=exif_with_orientation(orientation, "<"))
    assert_quadrants(thumbnail_of(data, Format.WEBP))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rotation_boxes_of_an_avif(orientation: int) -> None:
    # Pillow's encoder writes irot and imir for the orientation it is given.
    data = saved(stored(orientation), "AVIF", quality=95, exif=exif_with_orientation(orientation))
    assert_quadrants(thumbnail_of(data, Format.AVIF))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rotation_boxes_of_a_heic(orientation: int) -> None:
    heif = pillow_heif.from_pillow(stored(orientation))
    heif[0].info["exif"] = b"Exif\0\0" + exif_with_orientation(orientation)  # its encoder writes irot and imir for it
    out = io.BytesIO()
    heif.save(out, quality=95)
    assert_quadrants(thumbnail_of(out.getvalue(), Format.HEIC), tolerance=10)


@pytest.mark.parametrize("number", range(2, 9))
def test_the_same_scene_in_all_orientations_gives_the_same_thumbnail(number: int) -> None:
    first, other = (
        np.asarray(thumbnail_of((DATA / f"jpeg-orientation-{each}.jpg").read_bytes(), Format.JPEG), dtype=np.int16)
        for each in (1, number)
    )
    # The scenes differ by their painted number and by compression; a wrong turn would differ by about 70.
    assert float(np.abs(first - other).mean()) < 6


def test_rotation_and_mirror_boxes_together() -> None:
    thumbnail = thumbnail_of((DATA / "avif-irot-imir.avif").read_bytes(), Format.AVIF)
    upper, lower = (np.asarray(thumbnail)[rows].mean(axis=(0, 1)) for rows in (slice(0, 60), slice(-60, None)))
    assert upper[2] > lower[2] + 60  # the sky is above the field


def test_an_odd_sized_picture_keeps_its_colours_in_place_when_turned() -> None:
    image = quadrants(97, 65).transpose(Image.Transpose.ROTATE_90)
    data = saved(image, "JPEG", quality=95, exif=b"Exif\0\0" + exif_with_orientation(6))
    thumbnail = thumbnail_of(data, Format.JPEG, longest_edge=51)
    assert thumbnail.size == (51, 34)
    assert_quadrants(thumbnail)


def test_the_header_tells_the_size_as_displayed() -> None:
    data = saved(stored(8), "JPEG", exif=b"Exif\0\0" + exif_with_orientation(8))
    header = inspect_image(data, Format.JPEG, PictureBounds())
    assert (header.width, header.height) == (96, 64)


def test_an_orientation_in_xmp_alone_does_not_count() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert_quadrants(thumbnail_of(saved(quadrants(), "JPEG", quality=95, xmp=xmp), Format.JPEG))


def test_the_embedded_exif_thumbnail_is_never_used() -> None:
    pixels = np.asarray(
        thumbnail_of((DATA / "jpeg-exif-thumbnail-differs.jpg").read_bytes(), Format.JPEG), dtype=np.int16
    )
    magenta = (np.abs(pixels - np.array([255, 0, 255])).max(axis=2) < 60).mean()
    assert magenta < 0.01


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation_is_read_in_both_byte_orders(orientation: int, order: str) -> None:
    exif = exif_with_orientation(orientation, order)
    assert read_exif(memoryview(exif)).orientation == orientation
    assert read_exif(memoryview(b"Exif\0\0" + exif)).orientation == orientation


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif",
        b"Exif\0\0MM\0*",
        b"MM\0*\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        exif_with_orientation(0),
        exif_with_orientation(9),
        exif_with_orientation(6)[:-8],
        exif_with_orientation(6).replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"),  # ASCII, not SHORT
        exif_with_orientation(6).replace(b"\x01\x12\x00\x03", b"\x01\x13\x00\x03"),  # another tag
        b"XX" + exif_with_orientation(6)[2:],
    ],
)
def test_a_damaged_exif_block_means_upright(exif: bytes) -> None:
    assert read_exif(memoryview(exif)).orientation == 1


# --- what is served is turned as the status says -----------------------------------------------------------------


def _entry(kind: int, value: bytes, count: int = 1, tag: int = 0x0112) -> bytes:
    return struct.pack(">HHI", tag, kind, count) + value.ljust(4, b"\0")


def _block(*entries: bytes, entries_said: int | None = None, offset: int = 8) -> bytes:
    count = len(entries) if entries_said is None else entries_said
    directory = struct.pack(">H", count) + b"".join(entries) + bytes(4)
    return b"MM\0*" + struct.pack(">I", offset) + bytes(max(0, offset - 8)) + directory


_SIX = _entry(3, b"\0\6")
ENCODINGS = {
    "short": _block(_SIX),
    "little endian": exif_with_orientation(6, "<"),
    "long": _block(_entry(4, b"\0\0\0\6")),
    "byte": _block(_entry(1, b"\6")),
    "signed": _block(_entry(8, b"\0\6")),
    "ascii": _block(_entry(2, b"6")),
    "two values": _block(_entry(3, b"\0\6\0\1", count=2)),
    "no value": _block(_entry(3, b"\0\6", count=0)),
    "zero": _block(_entry(3, b"")),
    "nine": _block(_entry(3, b"\0\x09")),
    "twice, the first turned": _block(_SIX, _entry(3, b"\0\1")),
    "twice, the second turned": _block(_entry(3, b"\0\1"), _SIX),
    "long before short": _block(_entry(4, b"\0\0\0\6"), _entry(3, b"\0\1")),
    "more entries said than there are": _block(_SIX, entries_said=999),
    "fewer entries said than there are": _block(_entry(3, b"\0\1", tag=0x0100), _SIX, entries_said=1),
    "cut off behind the value": _block(_SIX)[:-5],
    "cut off in the value": _block(_SIX)[:-8],
    "at an odd offset": _block(_SIX, offset=11),
    "before the header's end": _block(_SIX, offset=4),
    "behind the end": _block(_SIX)[:4] + b"\0\1\0\0" + _block(_SIX)[8:],
    "with a prefix": b"Exif\0\0" + _block(_SIX),
    "with two prefixes": b"Exif\0\0Exif\0\0" + _block(_SIX),
    "with a broken prefix": b"Exif\0\xff" + _block(_SIX),
    "no magic": b"MM\0+" + _block(_SIX)[4:],
    "empty": b"",
}


def _riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _webp(*chunks: bytes, flags: int = 8, behind: bytes = b"") -> bytes:
    """An extended WebP of 60 × 30, with chunks behind the picture and bytes behind the container."""
    picture = saved(Image.new("RGB", (60, 30)), "WEBP")[12:]
    features = _riff(b"VP8X", bytes((flags, 0, 0, 0, 59, 0, 0, 29, 0, 0)))
    body = b"WEBP" + features + picture + b"".join(chunks)
    return _riff(b"RIFF", body) + behind


def _segment(content: bytes, marker: int = 0xE1) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _jpeg(*segments: bytes) -> bytes:
    plain = saved(Image.new("RGB", (60, 30)), "JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def _assert_served_as_told(data: bytes, fmt: Format) -> None:
    told = inspect_image(data, fmt, PictureBounds())
    served = Image.open(io.BytesIO(original_of(data, fmt)), formats=[fmt.value.upper()])
    assert ImageOps.exif_transpose(served).size == (told.width, told.height)
    assert inspect_image(original_of(data, fmt), fmt, PictureBounds()) == told


@pytest.mark.parametrize("exif", ENCODINGS.values(), ids=ENCODINGS)
def test_exif_of_any_encoding_turns_what_is_served_and_the_thumbnails_alike(exif: bytes) -> None:
    _assert_served_as_told(_jpeg(_segment(b"Exif\0\0" + exif)), Format.JPEG)
    _assert_served_as_told(_webp(_riff(b"EXIF", exif)), Format.WEBP)
    png = with_chunks(saved(Image.new("RGB", (60, 30)), "PNG"), chunk(b"eXIf", exif))
    _assert_served_as_told(png, Format.PNG)


@pytest.mark.parametrize("exif", [each for each in ENCODINGS.values() if each[:4] == b"MM\0*"])
@pytest.mark.parametrize("turn", [1, 6])
def test_the_boxes_of_an_avif_turn_it_whatever_its_exif_says(exif: bytes, turn: int) -> None:
    written = Image.Exif()
    written[ExifTags.Base.Orientation], written[ExifTags.Base.Software] = turn, "x" * 200
    data = saved(Image.new("RGB", (60, 30)), "AVIF", exif=written)
    at = data.index(b"MM\0*")
    _assert_served_as_told(data[:at] + exif.ljust(200, b"\0") + data[at + 200 :], Format.AVIF)


_UPRIGHT_CHUNK, _TURNED_CHUNK = (_riff(b"EXIF", _block(_entry(3, bytes((0, each))))) for each in (1, 6))


@pytest.mark.parametrize(
    "data",
    [
        _webp(_UPRIGHT_CHUNK, behind=_TURNED_CHUNK),
        _webp(behind=_TURNED_CHUNK),
        _webp(_UPRIGHT_CHUNK, _TURNED_CHUNK),
        _webp(_TURNED_CHUNK, _UPRIGHT_CHUNK),
        _webp(_riff(b"EXIF", b""), _TURNED_CHUNK),
        _webp(_TURNED_CHUNK, flags=0),
        _riff(b"RIFF", b"WEBP" + saved(Image.new("RGB", (60, 30)), "WEBP")[12:] + _TURNED_CHUNK),
    ],
    ids=["behind the end, too", "behind the end", "second", "first", "behind an empty one", "not told", "not extended"],
)
def test_the_same_chunk_of_a_webp_turns_what_is_served_and_the_thumbnails(data: bytes) -> None:
    _assert_served_as_told(data, Format.WEBP)


def test_the_same_segment_of_a_jpeg_turns_what_is_served_and_the_thumbnails() -> None:
    upright, turned = (_segment(b"Exif\0\0" + _block(_entry(3, bytes((0, each))))) for each in (1, 6))
    for segments in (
        (upright, turned),
        (turned, upright),
        (_segment(b"Exif\0\1" + _block(_SIX)), upright),
        (_segment(turned, marker=0x02),),
        (_segment(turned, marker=0xF0),),
        (_segment(b"Exif\0\0"), turned),
        (b"\xff\xff\0\xff\1", turned),
    ):
        _assert_served_as_told(_jpeg(*segments), Format.JPEG)


def test_a_cut_off_chunk_of_a_png_turns_neither_what_is_served_nor_the_thumbnails() -> None:
    png = saved(Image.new("RGB", (60, 30)), "PNG")
    _assert_served_as_told(png[: png.index(b"IEND") - 4] + chunk(b"eXIf", _block(_SIX))[:-2], Format.PNG)
