"""Matroska and WebM as ffmpeg and browsers write them, full of what must go."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

import pytest

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.matroska.clusters import BlockReader
from mediascrub.matroska.ebml import Element, element_at, parse_element, void_header
from mediascrub.matroska.scrub import scrub_cluster
from mediascrub.movie import Edits, MoviePlan
from mediascrub.sparse import SparseFile

from .allowed_in_videos import leaks, tag_leaks
from .coded_videos import HDR10_PLUS
from .made_matroska import children, element, file_of, good_cluster, info, number, track
from .videos import (
    DATA,
    apply_patches,
    examine,
    examine_bytes,
    exiftool,
    frames,
    make,
    scrub,
    shown_size,
)

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2")
SOUND = ("-f", "lavfi", "-i", "sine=d=2")
TITLED = ("-metadata", "title=TITLE-LEAK", "-metadata", "location=LEAK", "-metadata:s:v:0", "title=TRACK-LEAK")
DATED = ("-metadata", "creation_time=2024-05-06T07:08:09Z")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime")
SEGMENT, TAGS, ATTACHMENTS, CHAPTERS = 0x18538067, 0x1254C367, 0x1941A469, 0x1043A770


def _assert_clean(path: Path, tmp_path: Path) -> MoviePlan:
    clean = tmp_path / f"clean{path.suffix}"
    plan = scrub(path, clean)
    data = clean.read_bytes()
    assert len(data) == path.stat().st_size
    assert b"LEAK" not in data
    assert b"Lavf" not in data
    assert frames(clean) == frames(path) != []
    (tags,) = exiftool(clean)
    assert list(leaks(tags)) == []
    assert list(tag_leaks(clean)) == []
    assert examine(clean).patches == ()
    assert {TAGS, ATTACHMENTS, CHAPTERS}.isdisjoint(element.id for element in _top_level(data))
    return plan


def _top_level(data: bytes) -> list[Element]:
    """The segment's children, by the grammar alone: whatever was voided must still add up."""
    head = parse_element(data, 0, 0)
    segment = parse_element(data, head.end, head.end)
    assert segment.id == SEGMENT
    if segment.size is None:
        return []
    return children(data, segment)


@pytest.mark.parametrize(
    "options",
    [
        (*VP8, "-c:a", "libvorbis"),
        (*VP8, "-c:a", "libopus"),
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cues_to_front", "1"),
        ("-c:v", "libsvtav1", "-preset", "12"),
    ],
    ids=" ".join,
)
def test_webm_of_every_make_comes_out_clean(options: tuple[str, ...], tmp_path: Path) -> None:
    path = make(tmp_path / "made.webm", *PICTURE, *SOUND, *TITLED, *DATED, *options)
    plan = _assert_clean(path, tmp_path)
    assert plan.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    "options",
    [
        ("-c:a", "flac"),
        ("-c:a", "pcm_s16le"),
        ("-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "ac3"),
        ("-cluster_time_limit", "100", "-write_crc32", "1"),
        ("-write_crc32", "0", "-reserve_index_space", "2000"),
    ],
    ids=" ".join,
)
def test_mkv_of_every_make_comes_out_clean(options: tuple[str, ...], tmp_path: Path) -> None:
    cover = DATA / "jpeg-orientation-1.jpg"
    chapters = tmp_path / "chapters.txt"
    chapters.write_text(";FFMETADATA1\ntitle=LEAK\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=CHAPTER-LEAK\n")
    attached = ("-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", "-metadata:s:t", "filename=LEAK.jpg")
    path = make(
        tmp_path / "made.mkv", *PICTURE, *SOUND, "-i", chapters, *attached, *TITLED, *DATED, *options
    )  # fmt: skip
    assert cover.read_bytes()[:1000] in path.read_bytes()
    _assert_clean(path, tmp_path)
    assert cover.read_bytes()[1000:1100] not in (tmp_path / "clean.mkv").read_bytes()


def test_subtitles_go_from_their_clusters(tmp_path: Path) -> None:
    subtitles = tmp_path / "position.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,500\nGPS (-0.1255, 51.5334, 26) LEAK\n")
    path = make(tmp_path / "drone.mkv", *PICTURE, *SOUND, "-i", subtitles, "-c:s", "srt")
    assert b"51.5334" in path.read_bytes()
    _assert_clean(path, tmp_path)
    assert b"51.5334" not in (tmp_path / "clean.mkv").read_bytes()


def test_a_live_recording_comes_out_clean(tmp_path: Path) -> None:
    path = make(tmp_path / "live.webm", *PICTURE, *SOUND, *TITLED, *VP8, "-g", "10", "-f", "webm", "-live", "1")
    plan = _assert_clean(path, tmp_path)
    assert plan.duration_s == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("cut", [1, 5, 20, 3000])
def test_a_recording_cut_off_is_taken_as_far_as_it_goes(cut: int, tmp_path: Path) -> None:
    path = make(tmp_path / "live.webm", *PICTURE, *TITLED, *VP8, "-f", "webm", "-live", "1")
    path.write_bytes(path.read_bytes()[:-cut])
    assert shown_size(path) == (160, 120)
    clean = tmp_path / "clean.webm"
    scrub(path, clean)
    assert b"LEAK" not in clean.read_bytes()


@pytest.mark.parametrize("trailer", [b"x", b"xy", b"LEAK" * 40, b"\x1a\x45\xdf\xa3" + b"LEAK" * 40])
def test_what_follows_the_segment_goes(trailer: bytes) -> None:
    base = (DATA / "webm-vp8.webm").read_bytes()
    data = base + trailer
    clean = apply_patches(examine_bytes(data, Format.WEBM).patches, data)
    assert len(clean) == len(data)
    assert not any(clean[len(base) + 9 :])
    assert b"LEAK" not in clean


def test_elements_that_nobody_knows_become_void() -> None:
    data = (DATA / "webm-vp8.webm").read_bytes()
    segment = parse_element(data, parse_element(data, 0, 0).end, parse_element(data, 0, 0).end)
    unknown = b"\x1d\x00\x00\x01\x84LEAK"  # a valid id of four bytes
    info = b"\x15\x49\xa9\x66\x87\x7b\xa9\x84LEAK"[:12]  # a second Info, with a title
    assert segment.size is not None
    grown = data[: segment.offset + 4] + (segment.size + 21).to_bytes(8, "big").replace(b"\0", b"\x01", 1)
    grown += data[segment.payload :] + unknown + info
    clean = apply_patches(examine_bytes(grown, Format.WEBM).patches, grown)
    assert b"LEAK" not in clean
    assert [element.id for element in _top_level(clean)][-2:] == [0xEC, 0xEC]


_CLUSTER = 0x1F43B675
NO_NOTE = ("-bsf:v", "filter_units=remove_types=6")  # of x264, which a scrub overwrites
_PRIVATE = {
    "padding": b"\xec\x84LEAK",
    "tags": b"\x12\x54\xc3\x67\x84LEAK",
    "unknown": b"\x4d\x4d\x84LEAK",
    "encrypted": b"\xaf\x84LEAK",
    "no element": b"\x00LEAK",
    "no size": b"\x4d\x4d\xffLEAK",
    "too long": b"\x4d\x4d\x8fLEAK",
    "a block of no track": b"\xa3\x88\x85\0\0\x80LEAK",
    "a group of no track": b"\xa0\x8a\xa1\x88\x85\0\0\0LEAK",
}


def _sized(length: int) -> bytes:
    return b"\x01" + length.to_bytes(7, "big")


def _with_child_of_the_last_cluster(data: bytes, private: bytes) -> bytes:
    """``private`` at the end of the last cluster, which loses its checksum; the segment grows with it."""
    segment = parse_element(data, parse_element(data, 0, 0).end, parse_element(data, 0, 0).end)
    clusters = [each for each in _top_level(data) if each.id == _CLUSTER]
    last = clusters[-1]
    grown = data[last.offset : last.offset + 4] + _sized(last.end - last.payload + len(private))
    grown += data[last.payload : last.end] + private
    body = data[segment.payload : last.offset] + grown + data[last.end :]
    return data[: segment.offset + 4] + _sized(len(body)) + body


@pytest.mark.parametrize("private", _PRIVATE.values(), ids=_PRIVATE)
def test_only_blocks_stay_in_clusters(private: bytes, tmp_path: Path) -> None:
    # Longer than what a poster takes: there a damaged cluster is refused.
    source = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=9", *SOUND)
    made = make(tmp_path / "plain.mkv", *source, *NO_NOTE, "-cluster_time_limit", "500", "-write_crc32", "1")
    path = tmp_path / "private.mkv"
    path.write_bytes(_with_child_of_the_last_cluster(made.read_bytes(), private))
    _assert_clean(path, tmp_path)
    clean = (tmp_path / "clean.mkv").read_bytes()
    clusters = [each for each in _top_level(clean) if each.id == _CLUSTER]
    checksums = [clean[each.payload] for each in clusters]
    assert checksums == [0xBF] * (len(clusters) - 1) + [0xEC]  # of the last one it would be wrong


_BLOCK = element(0xA1, b"\x81\0\0\x80\0")


def _scrubbed_group(*parts: bytes) -> bytes:
    """The scrubbed content of a BlockGroup that begins with a block."""
    group = element(0xA0, _BLOCK + b"".join(parts))
    data = _with_child_of_the_last_cluster((DATA / "webm-vp8.webm").read_bytes(), group)
    clean = apply_patches(examine_bytes(data, Format.WEBM).patches, data)
    content = clean[data.index(group) :][9 : len(group)]
    assert content.startswith(_BLOCK)
    return content.removeprefix(_BLOCK)


def _void(length: int) -> bytes:
    return void_header(length).ljust(length, b"\0")


@pytest.mark.parametrize(
    "private",
    [b"\xec\x84LEAK", b"\x4d\x4d\x84LEAK", b"\xa4\x84LEAK", element(0xA1, b"\x81\0\0\0LEAK")],
    ids=["padding", "unknown", "state of a codec", "another block"],
)
def test_only_what_belongs_to_a_block_stays_in_its_group(private: bytes) -> None:
    duration = b"\x9b\x81\x05"
    assert _scrubbed_group(private, duration, private) == _void(len(private)) + duration + _void(len(private))


def _addition(content: bytes, kind: int | None = None, *beside: bytes) -> bytes:
    number = element(0xEE, bytes((kind,))) if kind is not None else b""
    return element(0xA6, number + element(0xA5, content) + b"".join(beside))


_NEEDED_ADDITIONS = [_addition(b"\x82alpha"), _addition(b"\x82alpha", 1), _addition(HDR10_PLUS, 4)]
_PRIVATE_ADDITIONS = {
    "of another provider": _addition(b"\xb5\0\x99LEAK", 4),
    "a time code": _addition(b"LEAK", 121),
    "a second content": _addition(HDR10_PLUS, 4, element(0xA5, b"LEAK")),
    "an element beside it": _addition(HDR10_PLUS, 4, b"\xec\x84LEAK"),
    "without content": element(0xA6, element(0xEE, b"\1")),
    "no addition": b"\xec\x84LEAK",
}


@pytest.mark.parametrize("private", _PRIVATE_ADDITIONS.values(), ids=_PRIVATE_ADDITIONS)
def test_of_the_additions_to_a_block_only_alpha_and_needed_messages_stay(private: bytes) -> None:
    alone = element(0x75A1, private)
    assert _scrubbed_group(alone) == _void(len(alone))
    for needed in _NEEDED_ADDITIONS:
        assert _scrubbed_group(element(0x75A1, needed)) == element(0x75A1, needed)
        kept = element(0x75A1, needed + _void(len(private)) + needed)
        assert _scrubbed_group(element(0x75A1, needed + private + needed)) == kept


def _message(length: int) -> bytes:
    """An access unit of H.264 that is one message of so many bytes."""
    unit = b"\x06\x05" + bytes((length - 8,)) + b"LEAK".ljust(length - 8) + b"\x80"
    return len(unit).to_bytes(4, "big") + unit


_FRAMES = (_message(100), _message(300 - 60), _message(100))


@pytest.mark.parametrize(
    ("lacing", "frames", "lengths"),
    [
        (0x02, (_message(255), _message(100)), b"\xff\x00"),
        (0x04, (_message(100),) * 3, b""),
        (0x06, _FRAMES, b"\x40\x64" + (240 - 100 + (1 << 13) - 1 | 0x4000).to_bytes(2, "big")),
        (0x00, (_message(100),), b""),
        (0x02, (b"", _message(100)), b"\x00"),
    ],
    ids=["xiph", "fixed", "ebml", "none", "an empty frame"],
)
def test_messages_in_blocks_of_several_frames_go(
    lacing: int, frames: tuple[bytes, ...], lengths: bytes, tmp_path: Path
) -> None:
    base = make(tmp_path / "plain.mkv", *PICTURE, *NO_NOTE).read_bytes()
    content = (bytes((len(frames) - 1,)) if lacing else b"") + lengths + b"".join(frames)
    block = b"\x81\0\0" + bytes((lacing,)) + content
    data = _with_child_of_the_last_cluster(base, b"\xa3" + _sized(len(block)) + block)
    clean = apply_patches(examine_bytes(data, Format.MKV).patches, data)
    assert data.count(b"LEAK") == len([frame for frame in frames if frame])
    assert b"LEAK" not in clean
    assert block.removesuffix(b"".join(frames)) in clean


def test_a_checksum_stays_where_nothing_else_changes(tmp_path: Path) -> None:
    path = make(tmp_path / "plain.mkv", *PICTURE, *SOUND, *NO_NOTE, "-write_crc32", "1")
    _assert_clean(path, tmp_path)
    data, clean = path.read_bytes(), (tmp_path / "clean.mkv").read_bytes()
    clusters = [each for each in _top_level(data) if each.id == _CLUSTER]
    assert clusters
    assert all(data[each.payload] == 0xBF for each in clusters)
    assert all(data[each.payload : each.end] == clean[each.payload : each.end] for each in clusters)


def test_the_blocks_of_a_track_that_goes_go_also_where_a_file_is_cut_off(tmp_path: Path) -> None:
    subtitles = tmp_path / "position.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,500\nLEAK LEAK LEAK LEAK\n")
    data = make(tmp_path / "drone.mkv", *PICTURE, "-i", subtitles, "-c:s", "srt").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(data[: data.rindex(b"LEAK LEAK LEAK") + 8])
    clean = tmp_path / "clean.mkv"
    scrub(path, clean)
    assert b"LEAK" not in clean.read_bytes()
    assert examine(clean).patches == ()


def test_a_last_block_that_is_cut_off_goes(tmp_path: Path) -> None:
    data = make(tmp_path / "plain.mkv", *PICTURE, *VP8).read_bytes()
    block = b"\xa3\xa0" + b"\x81\0\0\0" + b"LEAK" * 6
    longer = _with_child_of_the_last_cluster(data, block + bytes(4))
    path = tmp_path / "cut.mkv"
    path.write_bytes(longer[: longer.index(block) + len(block)])
    _assert_clean(path, tmp_path)


_VIDEO, _COLOUR = 0xE0, 0x55B0
_SIZE = number(0xB0, 640) + number(0xBA, 360)


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ((_VIDEO,), _SIZE + number(0x53C0, 1)),
        ((_VIDEO, _COLOUR), number(0x55B9, 1)),
        ((_VIDEO, _COLOUR, 0x55D0), number(0x55DA, 1)),
        ((_VIDEO, 0x7670), number(0x7671, 1)),
        ((0xE1,), number(0x9F, 2)),
        ((0x41E4,), number(0x41E7, 4)),
    ],
    ids=["video", "colour", "mastering", "projection", "audio", "mapping of additions"],
)
def test_only_what_is_needed_stays_in_the_parts_of_a_track(path: tuple[int, ...], needed: bytes) -> None:
    private = b"\xec\x84LEAK" + b"\x41\xa4\x84LEAK"
    part = needed + private
    for depth, each in reversed(list(enumerate(path))):
        part = element(each, _SIZE if each == _VIDEO and depth < len(path) - 1 else b"", part)
    data = file_of(info(), track(640, 360, b"V_VP8", part), good_cluster())
    clean = apply_patches(examine_bytes(data, Format.WEBM).patches, data)
    assert clean == data.replace(private, _void(6) + _void(7))


def test_display_size_stretches_the_width(tmp_path: Path) -> None:
    path = make(tmp_path / "wide.webm", *PICTURE, *VP8, "-vf", "setsar=4/3")
    assert shown_size(path) == (213, 120)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(ScrubError) as caught:
        examine(make(tmp_path / "sound.mkv", *SOUND))
    assert caught.value.code is ScrubCode.NO_VIDEO


def test_headers_without_clusters_are_corrupt() -> None:
    data = (DATA / "webm-vp8.webm").read_bytes()
    cluster = data.index(b"\x1f\x43\xb6\x75")
    with pytest.raises(ScrubError) as caught:
        examine_bytes(data[:cluster], Format.MKV)
    assert caught.value.code is ScrubCode.CORRUPT


@pytest.mark.parametrize("length", [*range(2, 140), 300, 70_000])
def test_a_void_header_fills_any_length(length: int) -> None:
    header = void_header(length)
    element = parse_element(header, 0, 0)
    assert element.id == 0xEC
    assert element.end == length


def test_a_damaged_group_of_blocks_is_voided_once() -> None:
    """What was voided in it before its damage is not voided again with the rest: patches must not overlap."""
    group = b"\xa0\x8c" + b"\xc0\x84LEAK" + bytes(6)
    with TemporaryFile(buffering=0) as spool:
        spool.write(b"\x1f\x43\xb6\x75" + bytes((0x80 | len(group),)) + group + bytes(20))
        file = SparseFile(spool.fileno(), spool.tell())
        edits = Edits(file.peek)
        cluster = element_at(file, 0)
        scrub_cluster(cluster, BlockReader(file, 100), edits, frozenset(), touched=False)
    (patch,) = edits.joined_with(())
    assert (patch.offset, patch.length) == (cluster.payload, len(group))
    assert patch.data == void_header(len(group)).ljust(len(group), b"\0")
