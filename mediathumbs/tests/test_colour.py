"""Colours arrive as they were meant: profiles, inks, sixteen bits, transparency."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms

from mediascrub import Format
from mediascrub.picture import BT709_PRIMARIES, CodePoints, IccProfile, Primaries
from mediathumbs.colour import is_srgb, to_srgb
from mediathumbs.matrix_profile import gamma_curve, hlg_in_sdr, matrix_profile, pq_curve, srgb_curve

from .made import (
    DATA,
    Rgb,
    chunk,
    distance,
    png_of_samples,
    saved,
    thumbnail_of,
    with_chunks,
)

P3: Primaries = ((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
P3_PROFILE = matrix_profile(P3, srgb_curve)
P3_PIXEL, P3_IN_SRGB = (210, 110, 60), (225, 103, 43)
GRAY_LEVELS = (0, 64, 128, 192, 255)


def flat(colour: Rgb, size: tuple[int, int] = (48, 32)) -> Image.Image:
    return Image.new("RGB", size, colour)


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))


def assert_colour(thumbnail: Image.Image, colour: Rgb, tolerance: int = 3) -> None:
    centre = thumbnail.width // 2, thumbnail.height // 2
    assert distance(thumbnail, centre, colour) <= tolerance, thumbnail.getpixel(centre)


def test_the_display_p3_patch_of_the_collection() -> None:
    assert_colour(thumbnail_of((DATA / "png-display-p3-patch.png").read_bytes(), Format.PNG), P3_IN_SRGB, 2)


def test_a_profile_in_each_format_that_has_one() -> None:
    image = flat(P3_PIXEL)
    for data, fmt in (
        (saved(image, "JPEG", quality=98, icc_profile=P3_PROFILE), Format.JPEG),
        (saved(image, "PNG", icc_profile=P3_PROFILE), Format.PNG),
        (saved(image, "WEBP", lossless=True, icc_profile=P3_PROFILE), Format.WEBP),
        (saved(image, "AVIF", quality=98, icc_profile=P3_PROFILE), Format.AVIF),
    ):
        assert_colour(thumbnail_of(data, fmt), P3_IN_SRGB, 4)


def test_a_profile_is_applied_after_the_shrink_as_before() -> None:
    data = saved(flat(P3_PIXEL, (900, 600)), "JPEG", quality=98, icc_profile=P3_PROFILE)
    thumbnail = thumbnail_of(data, Format.JPEG, longest_edge=100)
    assert thumbnail.size == (100, 67)
    assert_colour(thumbnail, P3_IN_SRGB)


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile at all",
        P3_PROFILE[:200],
        P3_PROFILE[:128] + bytes(len(P3_PROFILE) - 128),
        P3_PROFILE.replace(b"RGB XYZ ", b"GRAYXYZ "),
        P3_PROFILE.replace(b"RGB XYZ ", b"CMYKXYZ "),
    ],
)
def test_a_broken_or_unfitting_profile_is_ignored(profile: bytes) -> None:
    assert_colour(
        thumbnail_of(saved(flat((200, 100, 50)), "JPEG", quality=98, icc_profile=profile), Format.JPEG), (200, 100, 50)
    )


def test_srgb_under_another_name_costs_no_conversion() -> None:
    by_pillow = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_srgb(None)
    assert is_srgb(IccProfile(by_pillow))
    assert is_srgb(IccProfile(matrix_profile(BT709_PRIMARIES, srgb_curve)))
    assert not is_srgb(IccProfile(P3_PROFILE))


def test_png_precedence_is_cicp_then_iccp_then_srgb_then_gama() -> None:
    png = saved(flat(P3_PIXEL), "PNG")
    cicp_p3, cicp_srgb = chunk(b"cICP", bytes((12, 13, 0, 1))), chunk(b"cICP", bytes((1, 13, 0, 1)))
    srgb, linear = chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100_000))
    unconverted, p3 = P3_PIXEL, P3_IN_SRGB

    assert_colour(thumbnail_of(with_chunks(png, cicp_p3, srgb, linear), Format.PNG), p3)
    assert_colour(thumbnail_of(with_chunks(png, cicp_srgb, iccp(P3_PROFILE)), Format.PNG), unconverted)
    assert_colour(thumbnail_of(with_chunks(png, iccp(P3_PROFILE), srgb, linear), Format.PNG), p3)
    assert_colour(thumbnail_of(with_chunks(png, srgb, linear), Format.PNG), unconverted)


def test_png_gamma_and_chromaticities() -> None:
    png = saved(flat((128, 128, 128)), "PNG")
    gamma_1, gamma_22 = (chunk(b"gAMA", struct.pack(">I", value)) for value in (100_000, 45_455))
    assert_colour(thumbnail_of(with_chunks(png, gamma_1), Format.PNG), (188, 188, 188))
    assert_colour(thumbnail_of(with_chunks(png, gamma_22), Format.PNG), (128, 128, 128))

    points = [round(100_000 * value) for point in P3 for value in point]
    chromaticities = chunk(b"cHRM", struct.pack(">8I", *points))
    assert_colour(
        thumbnail_of(with_chunks(saved(flat(P3_PIXEL), "PNG"), gamma_22, chromaticities), Format.PNG), P3_IN_SRGB
    )


@pytest.mark.parametrize(
    "colour",
    [chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"cICP", bytes((1, 8, 0, 1))), chunk(b"cICP", bytes(4))],
    ids=["gAMA", "cICP", "cICP of sRGB"],
)
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_gray_png_is_converted_like_one_in_rgb(mode: str, colour: bytes) -> None:
    gray = Image.linear_gradient("L")
    shown, expected = (
        thumbnail_of(with_chunks(saved(gray.convert(each), "PNG"), colour), Format.PNG) for each in (mode, "RGB")
    )
    assert max(ImageChops.difference(shown, expected).tobytes()) <= 3


@pytest.mark.parametrize("chromaticities", [bytes(32), b"\xff" * 32, struct.pack(">8I", *[33_333] * 8)])
def test_nonsense_chromaticities_are_ignored(chromaticities: bytes) -> None:
    png = with_chunks(saved(flat(P3_PIXEL), "PNG"), chunk(b"gAMA", struct.pack(">I", 45_455)))
    assert_colour(thumbnail_of(with_chunks(png, chunk(b"cHRM", chromaticities)), Format.PNG), P3_PIXEL)


def test_an_avif_with_code_points_instead_of_a_profile() -> None:
    # 1/13 is what Pillow writes; 12 (Display P3) is put in its place.
    data = saved(flat(P3_PIXEL), "AVIF", quality=98)
    before = b"nclx" + struct.pack(">HH", 1, 13)
    assert data.count(before) == 1
    data = data.replace(before, b"nclx" + struct.pack(">HH", 12, 13))
    assert_colour(thumbnail_of(data, Format.AVIF), P3_IN_SRGB, 4)


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.58), (18, 0.75)])
def test_hdr_is_shown_neither_dark_nor_burnt_out(transfer: int, white: float) -> None:
    level = round(255 * white)  # 203 nits, the white of graphics, in either signal
    image = to_srgb(flat((level, level, level)), CodePoints(9, transfer))
    shown = image.getpixel((5, 5))
    assert isinstance(shown, tuple)
    assert 215 <= min(shown) <= max(shown) <= 250
    assert max(shown) - min(shown) <= 2
    assert to_srgb(flat((0, 0, 0)), CodePoints(9, transfer)).getpixel((5, 5)) == (0, 0, 0)


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize(
    "colour", [(200, 150, 125), (200, 30, 30), (40, 160, 60), (40, 60, 200), (205, 130, 40), (128, 128, 128)]
)
def test_a_colour_in_hdr_is_shown_as_in_sdr(colour: Rgb, transfer: int) -> None:
    assert_colour(to_srgb(flat(in_hdr(colour, transfer)), CodePoints(9, transfer)), colour, 4)


def in_hdr(colour: Rgb, transfer: int) -> Rgb:
    """An sRGB colour as BT.2100 encodes it, where white has 203 nits."""
    red, green, blue = (203 * srgb_curve(level / 255) for level in colour)
    # ITU-R BT.2087
    nits = [
        0.6274 * red + 0.3293 * green + 0.0433 * blue,
        0.0691 * red + 0.9195 * green + 0.0114 * blue,
        0.0164 * red + 0.0880 * green + 0.8956 * blue,
    ]
    luminance = 0.2627 * nits[0] + 0.6780 * nits[1] + 0.0593 * nits[2]
    if transfer == 16:
        powers = [(light / 10_000) ** 0.1593017578125 for light in nits]
        signal = [((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375 for power in powers]
    else:
        scene = [light / 1000 * (luminance / 1000) ** (1 / 1.2 - 1) for light in nits]
        signal = [
            math.sqrt(3 * light) if light <= 1 / 12 else 0.17883277 * math.log(12 * light - 0.28466892) + 0.55991073
            for light in scene
        ]
    first, second, third = (round(255 * value) for value in signal)
    return first, second, third


def gray_of_hlg(sample: float) -> float:
    return hlg_in_sdr(sample, sample, sample)[1]


@pytest.mark.parametrize("curve", [pq_curve, gray_of_hlg, srgb_curve, gamma_curve(2.2)])
def test_tone_curves_rise_from_black_to_white(curve: Callable[[float], float]) -> None:
    values = [curve(index / 100) for index in range(101)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert 0.95 <= values[-1] <= 1.0


def test_cmyk_of_adobe_is_no_negative() -> None:
    thumbnail = thumbnail_of((DATA / "jpeg-cmyk.jpg").read_bytes(), Format.JPEG)
    red, green, blue = thumbnail.getpixel((2, 2))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 60
    assert distance(thumbnail, (97, 97), (0, 0, 0)) < 30


def test_cmyk_with_a_profile_goes_through_it() -> None:
    profile = cmyk_profile()
    paper, ink = ((0, 0, 0, 0), (255, 255, 255, 255))
    for pixel, lightness in ((paper, 255), (ink, 0)):
        data = saved(Image.new("CMYK", (48, 32), pixel), "JPEG", quality=98, icc_profile=profile)
        assert_colour(thumbnail_of(data, Format.JPEG), (lightness,) * 3, 6)
    # The profile says that cyan ink alone is middle gray: no formula would.
    cyan = saved(Image.new("CMYK", (48, 32), (255, 0, 0, 0)), "JPEG", quality=98, icc_profile=profile)
    assert_colour(thumbnail_of(cyan, Format.JPEG), (119, 119, 119), 8)


def cmyk_profile() -> bytes:
    """A printer profile whose paper is white, whose cyan is L* 50, and where anything more is black."""
    white, gray, black = (255, 128, 128), (128, 128, 128), (0, 128, 128)
    grid = [white if index == 0 else gray if index == 8 else black for index in range(16)]  # cyan varies slowest
    identity = bytes(range(256))
    table = (
        b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
        + identity * 4 + bytes(value for point in grid for value in point) + identity * 3
    )  # fmt: skip
    tags = (b"A2B0", b"A2B1")
    start = 128 + 4 + 12 * len(tags)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI3i48x",
        start + len(table), b"\0" * 4, 0x02400000, b"prtr", b"CMYK", b"Lab ", b"\0" * 12, b"acsp", b"\0" * 4,
        0, 0, 0, 0, 0, 63190, 65536, 54061,
    )  # fmt: skip
    directory = b"".join(struct.pack(">4sII", tag, start, len(table)) for tag in tags)
    return header + struct.pack(">I", len(tags)) + directory + table


def test_a_gray_profile_is_applied_and_the_thumbnail_stays_gray() -> None:
    gray_linear = gray_profile()
    data = saved(Image.new("L", (48, 32), 128), "JPEG", quality=98, icc_profile=gray_linear)
    assert_colour(thumbnail_of(data, Format.JPEG), (188, 188, 188))


def gray_profile() -> bytes:
    """Gray in linear light."""
    curve, white = b"curv\0\0\0\0\0\0\0\0", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 24
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI3i48x",
        start + 32, b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"\0" * 12, b"acsp", b"\0" * 4,
        0, 0, 0, 0, 0, 63190, 65536, 54061,
    )  # fmt: skip
    directory = struct.pack(">I4sII4sII", 2, b"wtpt", start, 20, b"kTRC", start + 20, 12)
    return header + directory + white + curve


def test_a_jpeg_that_stores_rgb_itself() -> None:
    data = saved(flat((200, 90, 30)), "JPEG", quality=98, keep_rgb=True)
    assert_colour(thumbnail_of(data, Format.JPEG), (200, 90, 30))


@pytest.mark.parametrize("level", GRAY_LEVELS)
def test_sixteen_bits_are_neither_clipped_nor_dark(level: int) -> None:
    sample = struct.pack(">H", level * 257)
    opaque = b"\xff\xff"
    for colour_type, pixel in ((0, sample), (2, sample * 3), (4, sample + opaque), (6, sample * 3 + opaque)):
        data = png_of_samples((16, 16), 16, colour_type, [pixel * 16] * 16)
        assert_colour(thumbnail_of(data, Format.PNG), (level,) * 3, 2)


def test_the_flag_of_sixteen_bits() -> None:
    thumbnail = thumbnail_of((DATA / "png-16bit.png").read_bytes(), Format.PNG)
    for row, colour in ((40, (174, 28, 40)), (133, (255, 255, 255)), (225, (33, 70, 139))):
        assert distance(thumbnail, (200, row), colour) <= 4


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8])
def test_small_bit_depths_of_gray_and_their_clear_colour(bit_depth: int) -> None:
    pixels_in_byte = 8 // bit_depth
    black_row, width = bytes(16 // pixels_in_byte), 16
    data = png_of_samples((width, 16), bit_depth, 0, [black_row] * 16)
    assert_colour(thumbnail_of(data, Format.PNG), (0, 0, 0))
    data = png_of_samples((width, 16), bit_depth, 0, [black_row] * 16, chunk(b"tRNS", b"\0\0"))
    assert_colour(thumbnail_of(data, Format.PNG), (255, 255, 255))


def test_the_clear_colour_of_rgb_matches_all_channels() -> None:
    clear = chunk(b"tRNS", struct.pack(">3H", 10, 20, 30))
    assert_colour(thumbnail_of(with_chunks(saved(flat((10, 20, 30)), "PNG"), clear), Format.PNG), (255, 255, 255))
    assert_colour(thumbnail_of(with_chunks(saved(flat((10, 20, 31)), "PNG"), clear), Format.PNG), (10, 20, 31))


@pytest.mark.parametrize("colour_type", [0, 2])
def test_the_clear_colour_of_sixteen_bits_is_compared_with_sixteen_bits(colour_type: int) -> None:
    channels = 1 if colour_type == 0 else 3
    clear, near = (struct.pack(">H", sample) * channels for sample in (0x1234, 0x1235))
    for pixel, level in ((clear, 255), (near, 0x12)):
        rows = [pixel * 16] * 16
        data = png_of_samples((16, 16), 16, colour_type, rows, chunk(b"tRNS", clear))
        assert_colour(thumbnail_of(data, Format.PNG), (level,) * 3, 2)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_lies_on_white(alpha: int) -> None:
    colour = (200, 40, 80)
    red, green, blue = (round(255 + (channel - 255) * alpha / 255) for channel in colour)
    image = Image.new("RGBA", (32, 32), (*colour, alpha))
    for data, fmt in (
        (saved(image, "PNG"), Format.PNG),
        (saved(image, "WEBP", lossless=True, exact=True), Format.WEBP),
        (saved(image, "AVIF", quality=98), Format.AVIF),
    ):
        assert_colour(thumbnail_of(data, fmt), (red, green, blue), 4)
    gray = saved(Image.new("LA", (32, 32), (100, alpha)), "PNG")
    assert_colour(thumbnail_of(gray, Format.PNG), (round(255 - 155 * alpha / 255),) * 3, 3)


def test_a_palette_with_and_without_transparency() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 30, 140, 220])
    assert_colour(thumbnail_of(saved(image, "PNG"), Format.PNG), (30, 140, 220))
    assert_colour(thumbnail_of(saved(image, "PNG", transparency=bytes((255, 0))), Format.PNG), (255, 255, 255))
    assert_colour(thumbnail_of(saved(image, "GIF"), Format.GIF), (30, 140, 220))
    assert_colour(thumbnail_of(saved(image, "GIF", transparency=1), Format.GIF), (255, 255, 255))


def test_what_the_first_frame_of_a_gif_leaves_out_is_white() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 200, 30, 30])
    gif = saved(image, "GIF")
    descriptor = gif.index(b",\0\0\0\0")
    moved = gif[:6] + struct.pack("<HH", 64, 48) + gif[10:descriptor] + b"," + struct.pack("<HH", 32, 24)
    thumbnail = thumbnail_of(moved + gif[descriptor + 5 :], Format.GIF)
    assert thumbnail.size == (64, 48)
    assert distance(thumbnail, (8, 8), (255, 255, 255)) <= 3
    assert distance(thumbnail, (40, 32), (200, 30, 30)) <= 3


@pytest.mark.parametrize(
    ("format_name", "fmt"), [("GIF", Format.GIF), ("PNG", Format.PNG), ("WEBP", Format.WEBP), ("AVIF", Format.AVIF)]
)
def test_the_first_frame_stands_for_an_animation(format_name: str, fmt: Format) -> None:
    frames = [flat(colour) for colour in ((200, 30, 30), (30, 200, 30), (30, 30, 200))]
    options: dict[str, Any] = {} if format_name in ("GIF", "PNG") else {"quality": 95}
    out = io.BytesIO()
    frames[0].save(out, format_name, save_all=True, append_images=frames[1:], duration=200, **options)
    assert_colour(thumbnail_of(out.getvalue(), fmt), (200, 30, 30), 5)


def test_the_first_picture_stands_for_an_mpo() -> None:
    data = (DATA / "mpo-stereo.mpo").read_bytes()
    first = data[: data.index(b"\xff\xd9\xff\xd8") + 2] if b"\xff\xd9\xff\xd8" in data else data
    assert thumbnail_of(data, Format.JPEG).tobytes() == thumbnail_of(first, Format.JPEG).tobytes()


@pytest.mark.parametrize("primaries", [(P3[0], P3[1], P3[1], P3[1]), (P3[0], (0.3, 0.0), P3[2], P3[3])])
def test_primaries_that_span_no_gamut_are_refused(primaries: Primaries) -> None:
    with pytest.raises(ValueError):
        matrix_profile(primaries, srgb_curve)
