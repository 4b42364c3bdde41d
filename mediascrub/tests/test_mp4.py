"""MP4 and Format.MOV in all the ways that writers lay them out, made by ffmpeg or by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.movie import MoviePlan

from .allowed_in_videos import leaks, tag_leaks
from .made_files import CLEAN_PROFILE, SRGB_PROFILE
from .videos import (
    DATA,
    apply_patches,
    examine,
    examine_bytes,
    exiftool,
    frames,
    make,
    probe,
    scrub,
    shown_size,
)

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2")
SOUND = ("-f", "lavfi", "-i", "sine=d=2")
TITLED = ("-metadata", "title=TITLE-LEAK", "-metadata", "location=+51.0-000.1/", "-metadata", "comment=COMMENT-LEAK")
BASE = DATA / "mp4-h264-moov-at-end.mp4"
SECRET = b"+37.8199-122.4783/ secret"


def _assert_clean(path: Path, tmp_path: Path) -> MoviePlan:
    """Scrubbed, the file has its length and its frames, and none of the secrets."""
    clean = tmp_path / f"clean{path.suffix}"
    plan = scrub(path, clean)
    data = clean.read_bytes()
    assert len(data) == path.stat().st_size
    assert b"LEAK" not in data
    assert SECRET not in data
    assert frames(clean) == frames(path) != []
    (tags,) = exiftool(clean)
    assert list(leaks(tags)) == []
    assert list(tag_leaks(clean)) == []
    assert examine(clean).patches == ()
    return plan


@pytest.mark.parametrize(
    "options",
    [
        ("-movflags", "+faststart"),
        ("-movflags", "frag_keyframe+empty_moov+default_base_moof"),
        ("-movflags", "frag_keyframe+empty_moov+separate_moof+omit_tfhd_offset"),
        ("-movflags", "frag_keyframe+empty_moov+frag_discont+skip_trailer"),
        ("-movflags", "frag_keyframe"),
        ("-movflags", "frag_keyframe+empty_moov+default_base_moof+global_sidx"),
        ("-movflags", "+use_metadata_tags"),
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
        ("-c:v", "libx265", "-x265-params", "log-level=error", "-tag:v", "hvc1", "-c:a", "ac3"),
        ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
        ("-c:a", "flac"),
        ("-c:a", "alac"),
        ("-c:v", "libsvtav1", "-preset", "12"),
    ],
    ids=" ".join,
)
def test_mp4_of_every_make_comes_out_clean(options: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / "made.mp4", *PICTURE, *SOUND, *TITLED, "-g", "10", *options)
    plan = _assert_clean(path, tmp_path)
    assert plan.duration_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        ("-c:a", "pcm_s16le"),
        ("-c:a", "pcm_s24be", "-ac", "2"),
        ("-c:a", "adpcm_ima_qt"),
        ("-c:a", "pcm_mulaw", "-ar", "8000"),
        ("-c:v", "prores_ks", "-c:a", "aac"),
        ("-c:v", "mjpeg", "-c:a", "aac"),
        ("-c:v", "h263", "-s", "176x144", "-c:a", "pcm_s16be"),
    ],
    ids=" ".join,
)
def test_mov_of_every_make_comes_out_clean(options: tuple[str, ...], tmp_path: Path) -> None:
    # A timecode, a title and a reel name: three tracks or boxes that go.
    path = make(tmp_path / "made.mov", *PICTURE, *SOUND, *TITLED, "-timecode", "10:20:30:00", *options)
    _assert_clean(path, tmp_path)


def test_uncompressed_sound_beside_dropped_tracks_survives(tmp_path: Path) -> None:
    subtitles = tmp_path / "position.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,500\nGPS (-0.1255, 51.5334, 26) LEAK\n")
    path = make(tmp_path / "drone.mov", *PICTURE, *SOUND, "-i", subtitles, "-c:a", "pcm_s16le", "-c:s", "mov_text")
    assert b"LEAK" in path.read_bytes()
    _assert_clean(path, tmp_path)


@pytest.mark.parametrize(
    ("handler", "entry", "stays"),
    [
        (b"subt", b"tx3g", False),
        (b"subt", b"stpp", True),
        (b"subt", b"wvtt", True),
        (b"clcp", b"tx3g", False),
        (b"clcp", b"c608", True),
    ],
    ids=lambda each: each.decode() if isinstance(each, bytes) else "",
)
def test_captions_stay_and_no_other_text(handler: bytes, entry: bytes, stays: bool, tmp_path: Path) -> None:
    words, path, clean = tmp_path / "words.srt", tmp_path / "words.mp4", tmp_path / "clean.mp4"
    words.write_text("1\n00:00:00,000 --> 00:00:01,500\nGPS (-0.1255, 51.5334, 26)\n")
    make(path, *PICTURE, "-i", words, "-c:s", "mov_text")
    data = path.read_bytes()
    assert data.count(b"sbtl") == data.count(b"tx3g") == 1
    path.write_bytes(data.replace(b"sbtl", handler).replace(b"tx3g", entry))
    scrub(path, clean)
    assert (b"51.5334" in clean.read_bytes()) is stays
    assert clean.read_bytes().count(b"trak") == 1 + stays


_UNCOMPRESSED = [
    ("-c:a", "pcm_s16le"),
    ("-c:a", "pcm_s24le", "-ac", "2"),
    ("-c:a", "pcm_f64be"),
    ("-c:a", "pcm_u8"),
    ("-c:a", "pcm_s32le", "-ac", "6"),
    ("-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "2"),
]


@pytest.mark.parametrize(
    "options",
    [*_UNCOMPRESSED, ("-c:a", "adpcm_ima_qt"), ("-c:a", "libmp3lame"), ("-c:a", "aac")],
    ids=" ".join,
)
def test_what_a_camera_writes_beside_chunks_of_sound_is_zeroed(options: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / "dash.mov", *PICTURE, *SOUND, "-movflags", "+faststart", *options)
    path.write_bytes(_with_blocks_behind_sound(path.read_bytes()))
    _assert_clean(path, tmp_path)


@pytest.mark.parametrize(
    ("options", "frames_in_sample"),
    [*((options, 1) for options in _UNCOMPRESSED), (("-c:a", "adpcm_ima_qt", "-ac", "2"), 64)],
    ids=str,
)
def test_sound_that_is_counted_in_frames_stays_whole_and_nothing_beside_it(
    options: tuple[str, ...], frames_in_sample: int, tmp_path: Path
) -> None:
    path = make(tmp_path / "dash.mov", *PICTURE, *SOUND, "-movflags", "+faststart", *options)
    data = _with_blocks_behind_sound(path.read_bytes())
    _count_frames(data, frames_in_sample)
    path.write_bytes(data)
    _assert_clean(path, tmp_path)


def _with_blocks_behind_sound(source: bytes) -> bytearray:
    """A position behind the first chunk of sound and one at the end, as dash cameras write it; ``moov`` comes first."""
    data = bytearray(source)
    block = (struct.pack(">I", 256) + b"freeGPS " + SECRET).ljust(256, b"\0")
    tables = [_stco(data, at) for at in _places(data, b"stco")]
    sound = min(_stco(data, data.index(b"stco", data.index(b"soun"))))
    following = min(offset for table in tables for offset in table if offset > sound)
    for at in _places(data, b"stco"):
        moved = [offset + len(block) * (offset >= following) for offset in _stco(data, at)]
        struct.pack_into(f">{len(moved)}I", data, at + 12, *moved)
    data[following:following] = block
    data += block
    at = data.index(b"mdat") - 4
    struct.pack_into(">I", data, at, int.from_bytes(data[at : at + 4], "big") + 2 * len(block))
    return data


def _stco(data: bytearray, at: int) -> tuple[int, ...]:
    (count,) = struct.unpack_from(">I", data, at + 8)
    return struct.unpack_from(f">{count}I", data, at + 12)


def _places(data: bytearray, kind: bytes) -> Iterator[int]:
    at = data.find(kind)
    while at >= 0:
        yield at
        at = data.find(kind, at + 1)


def _count_frames(data: bytearray, frames_in_sample: int) -> None:
    """Let a sample of sound be one frame, said to be of one byte, as in old QuickTime."""
    sound = data.index(b"soun")
    stts, stsc, stsz = (data.index(kind, sound) for kind in (b"stts", b"stsc", b"stsz"))
    constant_size, samples = struct.unpack_from(">II", data, stsz + 8)
    assert constant_size
    struct.pack_into(">III", data, stts + 8, 1, samples * frames_in_sample, 1)
    struct.pack_into(">II", data, stsz + 8, 1, samples * frames_in_sample)
    (runs,) = struct.unpack_from(">I", data, stsc + 8)
    for at in range(stsc + 16, stsc + 12 + 12 * runs, 12):
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] * frames_in_sample)


def test_chapters_go(tmp_path: Path) -> None:
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=CHAPTER-LEAK\n")
    path = make(tmp_path / "chapters.mp4", *PICTURE, "-i", chapters, "-map_metadata", "1", "-map", "0:v")
    assert probe(path)["chapters"]
    _assert_clean(path, tmp_path)


def test_a_cover_picture_goes_and_is_not_the_video(tmp_path: Path) -> None:
    cover = DATA / "jpeg-orientation-1.jpg"
    as_cover = ("-c:v:1", "copy", "-disposition:v:1", "attached_pic")
    path = make(tmp_path / "cover.mp4", *PICTURE, "-i", cover, "-map", "0", "-map", "1", *as_cover)
    assert len(probe(path)["streams"]) == 2
    clean = tmp_path / "clean.mp4"
    scrub(path, clean)
    assert len(probe(clean)["streams"]) == 1
    assert frames(clean) == frames(path) != []


@pytest.mark.parametrize(("aspect", "width"), [("4/3", 213), ("1/2", 80), ("1/1", 160)])
def test_pixel_aspect_stretches_the_width(aspect: str, width: int, tmp_path: Path) -> None:
    path = make(tmp_path / "wide.mp4", *PICTURE, "-vf", f"setsar={aspect}")
    assert shown_size(path) == (width, 120)


def test_clean_aperture_crops(tmp_path: Path) -> None:
    path = make(tmp_path / "plain.mp4", *PICTURE)
    data = bytearray(path.read_bytes())
    clap = struct.pack(">I4s8I", 40, b"clap", 100, 1, 80, 1, 0, 1, 0, 1)
    start = data.index(b"pasp") - 4
    _insert(data, start, clap, parents=(b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"))
    path.write_bytes(data)
    assert shown_size(path) == (100, 80)


def test_a_colour_profile_loses_what_says_whose_it_is(tmp_path: Path) -> None:
    path = make(tmp_path / "plain.mp4", *PICTURE)
    data = bytearray(path.read_bytes())
    start = data.index(b"pasp") - 4
    colours = (b"prof" + SRGB_PROFILE, b"prof" + SECRET, b"SECR" + SECRET, b"nclx\0\1\0\1\0\1\0" + SECRET)
    for content in colours:
        box = struct.pack(">I4s", 8 + len(content), b"colr") + content
        _insert(data, start, box, parents=(b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"))
    path.write_bytes(data)
    _assert_clean(path, tmp_path)
    clean = (tmp_path / "clean.mp4").read_bytes()
    assert SRGB_PROFILE not in clean
    assert CLEAN_PROFILE in clean
    assert clean.count(b"colr") == 2 + data.count(b"colr") - len(colours)


SPHERICAL = (
    b'<?xml version="1.0"?><rdf:SphericalVideo\nxmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"\n'
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    b"<GSpherical:Spherical>true</GSpherical:Spherical>"
    b"<GSpherical:Stitched>true</GSpherical:Stitched>"
    b"<GSpherical:StitchingSoftware>THE-LEAK</GSpherical:StitchingSoftware>"
    b"<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    b"<GSpherical:Timestamp>1400454971</GSpherical:Timestamp>"
    b"<GSpherical:InitialViewHeadingDegrees>-90</GSpherical:InitialViewHeadingDegrees>"
    b"<GSpherical:SourceCount>THE-LEAK</GSpherical:SourceCount></rdf:SphericalVideo>"
)
SPHERICAL_UUID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")


def _with_box_in_track(path: Path, kind: bytes, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    box = struct.pack(">I4s", 8 + len(content), kind) + content
    _insert(data, data.index(b"mdia") - 4, box, parents=(b"trak", b"moov"))
    path.write_bytes(data)


def _projection(path: Path) -> dict[str, Any]:
    sides = probe(path)["streams"][0].get("side_data_list", [])
    return next((each for each in sides if each["side_data_type"] == "Spherical Mapping"), {})


def test_a_spherical_projection_stays_and_nothing_beside_it(tmp_path: Path) -> None:
    path = make(tmp_path / "sphere.mp4", *PICTURE)
    _with_box_in_track(path, b"uuid", SPHERICAL_UUID + SPHERICAL)
    clean = tmp_path / "clean.mp4"
    scrub(path, clean)
    assert _projection(clean) == _projection(path) != {}
    assert b"<GSpherical:InitialViewHeadingDegrees>-90<" in clean.read_bytes()
    assert b"LEAK" not in clean.read_bytes()
    assert b"1400454971" not in clean.read_bytes()
    assert scrub(clean, tmp_path / "twice.mp4").patches == ()


@pytest.mark.parametrize("content", [SPHERICAL_UUID + b"THE-LEAK", bytes(16) + SPHERICAL, SPHERICAL_UUID], ids=len)
def test_no_other_box_of_that_kind_stays(content: bytes, tmp_path: Path) -> None:
    path = make(tmp_path / "flat.mp4", *PICTURE)
    _with_box_in_track(path, b"uuid", content)
    clean = tmp_path / "clean.mp4"
    scrub(path, clean)
    assert b"uuid" not in clean.read_bytes()
    assert b"LEAK" not in clean.read_bytes()


def test_a_spherical_box_of_version_2_loses_the_name_of_its_tool(tmp_path: Path) -> None:
    path = make(tmp_path / "sphere.mp4", *PICTURE)
    data = bytearray(path.read_bytes())
    header = _atom(b"svhd", bytes(4), b"THE-LEAK\0")
    projection = _atom(b"proj", _atom(b"prhd", bytes(16)), _atom(b"equi", bytes(20)))
    box = _atom(b"sv3d", header, projection, _atom(b"free", b"THE-LEAK"))
    _insert(data, data.index(b"pasp") - 4, box, parents=(b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"))
    path.write_bytes(data)
    clean = tmp_path / "clean.mp4"
    scrub(path, clean)
    assert _projection(clean) == _projection(path) != {}
    assert b"LEAK" not in clean.read_bytes()
    assert projection in clean.read_bytes()


def _atom(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _insert(data: bytearray, position: int, box: bytes, parents: tuple[bytes, ...]) -> None:
    """Insert a box and grow its parents, whose types are searched backwards; sample data must come first."""
    for parent in parents:
        at = data.rindex(parent, 0, position) - 4
        struct.pack_into(">I", data, at, int.from_bytes(data[at : at + 4], "big") + len(box))
    data[position:position] = box


# --- laid out by hand -------------------------------------------------------------------------------------------


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    offset = 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        yield data[offset + 4 : offset + 8], offset, size
        offset += size


def _clean_bytes(data: bytes) -> bytes:
    plan = examine_bytes(data, Format.MP4)
    clean = apply_patches(plan.patches, data)
    assert len(clean) == len(data)
    return clean


def test_unknown_boxes_at_the_top_become_free() -> None:
    base = BASE.read_bytes()
    extra = b"".join(
        struct.pack(">I4s", 8 + len(SECRET), kind) + SECRET
        for kind in (b"uuid", b"free", b"skip", b"XMP_", b"meta", b"udta", b"prft", b"emsg", b"moov")
    )
    clean = _clean_bytes(base + extra)
    assert SECRET not in clean
    assert [kind for kind, offset, _ in _boxes(clean) if offset >= len(base)].count(b"free") == 8


@pytest.mark.parametrize(
    "private",
    [
        struct.pack(">I4s", 8 + len(SECRET), b"udta") + SECRET,
        struct.pack(">I4s", 8 + len(SECRET), b"free") + SECRET,
        SECRET,  # no box
    ],
    ids=["a box", "padding", "neither"],
)
def test_only_the_index_stays_in_the_index_of_fragments(private: bytes, tmp_path: Path) -> None:
    path = make(tmp_path / "made.mp4", *PICTURE, "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-g", "10")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"mfra") - 4
    end = data.rindex(b"mfro") - 4
    index = bytes(data[at + 8 : end])
    _insert(data, end, private, parents=(b"mfra",))
    assert struct.pack(">I", len(data) - at) != data[-4:]
    data[-4:] = struct.pack(">I", len(data) - at)  # as ``mfro`` says
    path.write_bytes(data)
    _assert_clean(path, tmp_path)
    clean = (tmp_path / "clean.mp4").read_bytes()
    readable = private != SECRET
    assert (clean[at + 4 : at + 8] + clean[at + 8 : end] == b"mfra" + index) is readable


@pytest.mark.parametrize("length", [1, 7, 8, 30, 5000])
def test_a_trailer_that_is_no_box_becomes_one(length: int) -> None:
    base = BASE.read_bytes()
    trailer = (b"\xff\xff\xffSEFT" + SECRET * 200)[:length]
    clean = _clean_bytes(base + trailer)
    assert SECRET not in clean
    if length < 8:
        assert clean[len(base) :] == bytes(length)
    else:
        assert clean[len(base) :] == struct.pack(">I4s", length, b"free") + bytes(length - 8)


def test_private_boxes_inside_the_movie_become_free() -> None:
    data = bytearray(BASE.read_bytes())
    secret = struct.pack(">I4s", 8 + len(SECRET), b"uuid") + SECRET
    at = data.index(b"tkhd") - 4
    _insert(data, at, secret, (b"trak", b"moov"))
    at = data.index(b"pasp") - 4 if b"pasp" in data else data.index(b"avcC") - 4
    _insert(data, at, secret.replace(b"uuid", b"PRIV"), (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"))
    clean = _clean_bytes(bytes(data))
    assert SECRET in data
    assert SECRET not in clean
    assert b"uuid" not in clean
    assert b"PRIV" not in clean


def test_media_data_that_no_table_names_is_zeroed(tmp_path: Path) -> None:
    data = BASE.read_bytes()
    (mdat,) = [(offset, size) for kind, offset, size in _boxes(data) if kind == b"mdat"]
    grown = bytearray(data[: mdat[0] + mdat[1]] + SECRET * 4 + data[mdat[0] + mdat[1] :])
    struct.pack_into(">I", grown, mdat[0], mdat[1] + 4 * len(SECRET))
    path = tmp_path / "gap.mp4"
    path.write_bytes(grown)
    _assert_clean(path, tmp_path)


def test_a_sample_that_claims_to_run_into_other_media_data_does_not_keep_it() -> None:
    data = BASE.read_bytes()
    (end,) = [offset + size for kind, offset, size in _boxes(data) if kind == b"mdat"]
    other = struct.pack(">I4s", 8 + 4 * len(SECRET), b"mdat") + SECRET * 4
    grown = bytearray(data[:end] + other + data[end:])
    for at in _places(grown, b"stsz"):
        (count,) = struct.unpack_from(">I", grown, at + 12)
        last = at + 12 + 4 * count
        struct.pack_into(">I", grown, last, int.from_bytes(grown[last : last + 4], "big") + len(other))
    assert SECRET not in _clean_bytes(bytes(grown))


@pytest.mark.parametrize("size_field", ["64 bits", "to the end"])
def test_other_ways_to_tell_a_size(size_field: str, tmp_path: Path) -> None:
    data = (DATA / "mp4-h264-udta-xyz-location.mp4").read_bytes()
    boxes = {kind: (offset, size) for kind, offset, size in _boxes(data)}
    offset, size = boxes[b"mdat"]
    assert offset + size == len(data)
    changed = bytearray(data)
    if size_field == "to the end":
        struct.pack_into(">I", changed, offset, 0)
    else:  # the free box of 8 bytes before it makes room for the longer header
        assert boxes[b"free"] == (offset - 8, 8)
        changed[offset - 8 : offset + 8] = struct.pack(">I4sQ", 1, b"mdat", size + 8)
    path = tmp_path / "sized.mp4"
    path.write_bytes(changed)
    _assert_clean(path, tmp_path)


def test_an_alias_that_claims_to_be_self_contained_loses_its_path() -> None:
    data = bytearray((DATA / "mov-external-dref-alis.mov").read_bytes())
    at = data.index(b"alis") + 4
    assert data[at : at + 4] == bytes(4)
    data[at + 3] = 1
    plan = examine_bytes(bytes(data), Format.MOV)
    assert b"passwd" in data
    assert b"passwd" not in apply_patches(plan.patches, bytes(data))


@pytest.mark.parametrize(("box", "reason"), [(b"cmov", ScrubCode.UNSUPPORTED), (b"rmra", ScrubCode.EXTERNAL_REFERENCE)])
def test_movie_headers_elsewhere_are_refused(box: bytes, reason: ScrubCode) -> None:
    data = struct.pack(">I4sI4s", 16, b"moov", 8, box)
    with pytest.raises(ScrubError) as caught:
        examine_bytes(data, Format.MOV)
    assert caught.value.code is reason


def test_a_table_far_larger_than_its_box_is_corrupt() -> None:
    data = bytearray(BASE.read_bytes())
    at = data.index(b"stsz")
    struct.pack_into(">I", data, at + 12, 0x00300000)
    with pytest.raises(ScrubError) as caught:
        examine_bytes(bytes(data), Format.MP4)
    assert caught.value.code is ScrubCode.CORRUPT
