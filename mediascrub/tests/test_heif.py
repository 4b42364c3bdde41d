"""Items, properties and tracks of Format.AVIF and Format.HEIC, one rule each."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from mediascrub import Format, ScrubCode

from .made_files import (
    CLEAN_PROFILE,
    LEAK,
    SRGB_PROFILE,
    box,
    full_box,
    oriented,
    original_of,
    picture,
    refused,
    saved,
)
from .made_heif import AV1C, CODED, COLR, FILE_TYPE, ISPE, PIXI, PLAIN, MadeHeif, MadeItem, with_item
from .samples import DATA, decode

CLEAN = original_of(PLAIN.build(), Format.AVIF)
FRAMES = decode(PLAIN.build(), Format.AVIF).frames
GAIN_MAP_TYPE = full_box(b"auxC", 0, 0, b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
ALPHA_TYPE = full_box(b"auxC", 0, 0, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
REQUIRED = (b"pitm", b"iloc", b"iinf", b"iprp")
ANIMATED = (DATA / "avif-animated-exif-gps-xmp.avif").read_bytes()


def scrubbed(content: bytes) -> bytes:
    after = original_of(content, Format.AVIF)
    assert original_of(after, Format.AVIF) == after
    assert LEAK not in after
    return after


def test_the_clean_file_holds_the_picture_and_nothing_else() -> None:
    assert decode(CLEAN, Format.AVIF).frames == FRAMES
    assert LEAK not in CLEAN
    assert len(CLEAN) < len(CODED) + 300


@pytest.mark.parametrize(
    "made",
    [
        with_item(MadeItem(2, b"Exif", bytes(4) + oriented(6, behind=LEAK), ()), (b"cdsc", 2, (1,))),
        with_item(MadeItem(2, b"mime", LEAK, (), b"application/rdf+xml\0\0"), (b"cdsc", 2, (1,))),
        with_item(MadeItem(2, b"uri ", LEAK, (), b"urn:leak\0")),
        with_item(MadeItem(2, b"av01", CODED + LEAK), (b"thmb", 2, (1,))),
        with_item(MadeItem(2, b"av01", CODED + LEAK)),
        with_item(MadeItem(2, b"av01", LEAK, (ISPE, b"!" + AV1C, GAIN_MAP_TYPE)), (b"auxl", 2, (1,))),
        with_item(MadeItem(2, b"tmap", LEAK, (ISPE,)), (b"dimg", 2, (1,))),
        with_item(MadeItem(2, b"av01", LEAK, (b"!" + box(b"what"),), protection=1)),
        with_item(MadeItem(2, b"av01", LEAK, data_reference=1)),
        with_item(MadeItem(2, b"av01", LEAK, at=1 << 31)),
        replace(PLAIN, more_in_meta=box(b"uuid", LEAK) + box(b"grpl", full_box(b"altr", 0, 0, LEAK))),
        replace(PLAIN, behind=box(b"uuid", LEAK) + box(b"mpvd", LEAK) + box(b"free", LEAK)),
        replace(PLAIN, behind=b"PK\x03\x04" + LEAK),
        replace(PLAIN, behind=b"\0\0\0\x02" + LEAK),
        replace(PLAIN, file_type=box(b"ftyp", b"avif", LEAK[:4], b"avifmif1miaftmapavismsf1")),
        replace(PLAIN, items=(MadeItem(1, properties=(*MadeItem(1).properties, full_box(b"udes", 0, 0, LEAK))),)),
    ],
    ids=lambda made: None,
)
def test_whatever_is_not_the_picture_goes(made: MadeHeif) -> None:
    assert scrubbed(made.build()) == CLEAN


def test_data_behind_a_property_goes() -> None:
    longer = struct.pack(">I", len(ISPE) + len(LEAK)) + ISPE[4:] + LEAK
    assert scrubbed(replace(PLAIN, items=(MadeItem(1, properties=(longer, PIXI, b"!" + AV1C, COLR)),)).build()) == CLEAN


def test_a_profile_stays_and_what_is_none_goes() -> None:
    profile = box(b"colr", b"prof", SRGB_PROFILE)
    fake = box(b"colr", b"prof", LEAK * 20)
    private = box(b"colr", LEAK)
    properties = (ISPE, PIXI, b"!" + AV1C, COLR, fake, private, profile)
    after = scrubbed(replace(PLAIN, items=(MadeItem(1, properties=properties),)).build())
    assert decode(after, Format.AVIF).icc_profile == CLEAN_PROFILE


def test_ids_of_32_bits_stay() -> None:
    made = replace(PLAIN, wide=True, items=(MadeItem(70_000),), primary=70_000)
    assert decode(scrubbed(made.build()), Format.AVIF).frames == FRAMES


@pytest.mark.parametrize("method", [0, 1])
def test_a_grid_keeps_its_tiles_and_its_description(method: int) -> None:
    description = bytes((0, 0, 0, 1)) + struct.pack(">HH", 1536, 512)
    whole = full_box(b"ispe", 0, 0, struct.pack(">II", 1536, 512))
    grid = MadeItem(1, b"grid", description, (whole, PIXI), method=method)
    made = replace(PLAIN, items=(grid, MadeItem(2), MadeItem(3), MadeItem(4)), references=((b"dimg", 1, (2, 3)),))
    after = scrubbed(made.build())
    assert decode(after, Format.AVIF).frames == decode(made.build(), Format.AVIF).frames
    assert decode(after, Format.AVIF).frames[0].size == (1536, 512)
    assert len(after) < 2 * len(CODED) + 1000


def test_transparency_stays() -> None:
    content = saved(picture(mode="L").convert("RGBA").rotate(45), "AVIF", xmp=LEAK, exif=oriented(1, behind=LEAK))
    after = scrubbed(content)
    assert decode(after, Format.AVIF).frames == decode(content, Format.AVIF).frames
    assert decode(after, Format.AVIF).frames[0].mode == "RGBA"


def test_data_that_items_share_is_kept_once() -> None:
    alpha = MadeItem(2, properties=(ISPE, PIXI, b"!" + AV1C, ALPHA_TYPE))
    apart = with_item(alpha, (b"auxl", 2, (1,)))
    shared = with_item(replace(alpha, at=apart.build().index(CODED)), (b"auxl", 2, (1,)))
    assert len(scrubbed(apart.build())) - len(scrubbed(shared.build())) == len(CODED)


def test_an_animation_keeps_frames_durations_and_transparency() -> None:
    frames = [picture(mode="RGBA").rotate(angle) for angle in (90, 180)]
    content = saved(picture(mode="RGBA"), "AVIF", save_all=True, append_images=frames, duration=[40, 50, 60])
    after = scrubbed(content)
    assert decode(after, Format.AVIF) == decode(content, Format.AVIF)
    assert len(decode(after, Format.AVIF).frames) == 3


def test_times_and_names_of_tracks_go() -> None:
    named = ANIMATED.replace(b"libavif", b"THELEAK")
    assert b"THELEAK" not in scrubbed(named)


def test_a_track_of_anything_else_goes() -> None:
    """The transparency of an animation, renamed to what a phone might add."""
    for handler in (b"soun", b"vide", b"meta"):
        after = scrubbed(ANIMATED.replace(b"\0\0\0\0auxv", b"\0\0\0\0" + handler))
        assert after.count(b"trak") == 1


def test_an_animation_without_its_tracks_is_corrupt() -> None:
    assert refused(ANIMATED.replace(b"\0\0\0\0pict", b"\0\0\0\0vide"), Format.AVIF) is ScrubCode.CORRUPT
    assert refused(ANIMATED.replace(b"moov", b"free"), Format.AVIF) is ScrubCode.CORRUPT


def test_a_track_with_data_elsewhere_is_an_external_reference() -> None:
    external = ANIMATED.replace(b"url \0\0\0\x01", b"url \0\0\0\0")
    assert external != ANIMATED
    assert refused(external, Format.AVIF) is ScrubCode.EXTERNAL_REFERENCE


def test_orientation_is_a_property_here_and_exif_has_no_say() -> None:
    upright = (DATA / "heic-still-portrait.heic").read_bytes()
    assert original_of(upright, Format.HEIC) == original_of(original_of(upright, Format.HEIC), Format.HEIC)
    turned = replace(PLAIN, items=(MadeItem(1, properties=(*MadeItem(1).properties, b"!" + box(b"irot", b"\x01"))),))
    assert decode(scrubbed(turned.build()), Format.AVIF) == decode(turned.build(), Format.AVIF)
    assert decode(scrubbed(turned.build()), Format.AVIF).orientation == 8


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (replace(PLAIN, items=(MadeItem(1, b"jpeg"),)), ScrubCode.UNSUPPORTED),
        (replace(PLAIN, items=(MadeItem(1, protection=1),)), ScrubCode.UNSUPPORTED),
        (replace(PLAIN, items=(MadeItem(1, method=2),)), ScrubCode.UNSUPPORTED),
        (replace(PLAIN, items=(MadeItem(1, properties=(ISPE, b"!" + box(b"what"))),)), ScrubCode.UNSUPPORTED),
        (replace(PLAIN, items=(MadeItem(1, data_reference=1),)), ScrubCode.EXTERNAL_REFERENCE),
        (replace(PLAIN, items=(MadeItem(1), MadeItem(1))), ScrubCode.CORRUPT),
        (replace(PLAIN, items=(MadeItem(1, at=1 << 31),)), ScrubCode.CORRUPT),
        (replace(PLAIN, items=(MadeItem(1, data=b""),)), ScrubCode.CORRUPT),
        (replace(PLAIN, primary=2), ScrubCode.CORRUPT),
        (replace(PLAIN, references=((b"dimg", 1, (2,)),)), ScrubCode.CORRUPT),
        (replace(PLAIN, handler=PLAIN.handler.replace(b"pict", b"null")), ScrubCode.CORRUPT),
        (replace(PLAIN, file_type=b""), ScrubCode.CORRUPT),
        (replace(PLAIN, file_type=FILE_TYPE.replace(b"avif", b"avis", 1)), ScrubCode.CORRUPT),
        *((replace(PLAIN, without=frozenset((kind,))), ScrubCode.CORRUPT) for kind in REQUIRED),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_picture_that_cannot_be_copied_is_refused(made: MadeHeif, reason: ScrubCode) -> None:
    assert refused(made.build(), Format.AVIF) is reason


@pytest.mark.parametrize("cut", [1, 1000, len(CODED), len(CODED) + 100])
def test_a_file_that_is_cut_off_is_corrupt(cut: int) -> None:
    assert refused(PLAIN.build()[:-cut], Format.AVIF) is ScrubCode.CORRUPT


def test_a_reference_cycle_ends() -> None:
    made = replace(PLAIN, references=((b"dimg", 1, (1, 2)), (b"dimg", 2, (1,))), items=(MadeItem(1), MadeItem(2)))
    assert scrubbed(made.build()).count(CODED) == 2


def test_a_multiplied_table_is_copied_once() -> None:
    """Each copy of a chunk table costs a hostile writer eight bytes and would cost us the whole table."""
    start = ANIMATED.index(b"stco") - 4
    table = ANIMATED[start : start + int.from_bytes(ANIMATED[start : start + 4], "big")]
    many = ANIMATED[:start] + table * 3 + ANIMATED[start + len(table) :]
    growth = 2 * len(table)
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = many.index(kind) - 4
        longer = int.from_bytes(many[at : at + 4], "big") + growth
        many = many[:at] + longer.to_bytes(4, "big") + many[at + 4 :]
    assert scrubbed(many).count(b"stco") == ANIMATED.count(b"stco")
