"""Messages inside coded pictures: private ones are gone, captions and HDR metadata stay, each frame is as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.coded_data import CODINGS, Coding, motion_jpeg, nal, obu

from . import coded_videos
from .coded_videos import CAPTION, HDR10_PLUS, MAKERS, SECRET
from .made_files import jpeg_segment, saved
from .videos import apply_patches, examine, exiftool, ffmpeg, frames, make, probe, scrub, store_of

_NOTES = (b"x264 - core", b"x265 (build", b"options:")


@pytest.mark.parametrize(("name", "container"), [
    (name, container) for name in MAKERS for container in ("mp4", "mov", "mkv") if (name, container) != ("av1", "mov")
])  # fmt: skip
def test_nothing_private_is_left_and_every_frame_is_as_it_was(name: str, container: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"video.{container}", tmp_path / f"scrubbed.{container}"
    MAKERS[name](path)
    assert SECRET in path.read_bytes()
    scrub(path, target)
    scrubbed = target.read_bytes()
    assert SECRET not in scrubbed
    assert not [note for note in _NOTES if note in scrubbed]
    assert frames(target) == frames(path) != []
    for needed in (CAPTION, HDR10_PLUS) if name != "motion jpeg" else ():
        assert scrubbed.count(needed) == path.read_bytes().count(needed) == 20
    assert "POSITION" not in str(exiftool(target))
    assert examine(target).patches == ()  # again: nothing is left to do


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "dash+frag_keyframe"])
def test_fragments_are_scrubbed_alike(flags: str, tmp_path: Path) -> None:
    path, fragmented, target = (tmp_path / f"{name}.mp4" for name in ("video", "fragmented", "scrubbed"))
    coded_videos.h264(path)
    ffmpeg("-i", path, "-c", "copy", "-movflags", flags, fragmented)
    scrub(fragmented, target)
    assert SECRET not in target.read_bytes()
    assert frames(target) == frames(fragmented) != []


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
@pytest.mark.parametrize("name", MAKERS)
def test_of_a_sample_that_the_end_of_the_file_cuts_off_nothing_stays(name: str, flags: str, tmp_path: Path) -> None:
    path, whole, target = (tmp_path / f"{each}.mp4" for each in ("video", "whole", "scrubbed"))
    MAKERS[name](path)
    ffmpeg("-i", path, "-c", "copy", "-movflags", flags, whole)
    data = whole.read_bytes()
    path.write_bytes(data[: data.rindex(SECRET) + len(SECRET)])
    scrub(path, target)
    assert SECRET not in target.read_bytes()
    shown, expected = ([frame.digest for frame in frames(each)] for each in (target, whole))
    assert shown == expected[:-1]


def _minute(path: Path) -> int:
    """A minute of H.264 with its encoder's single note; its length."""
    make(path, "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=60", "-c:v", "libx264", "-preset", "ultrafast")
    assert path.read_bytes().count(b"x264 - core") == 1
    return path.stat().st_size


@pytest.mark.parametrize("fmt", [Format.MP4, Format.MKV], ids=lambda fmt: fmt.value)
def test_a_large_video_with_messages_in_its_first_seconds_is_read_whole(fmt: Format, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.mp4", tmp_path / f"large.{fmt.value}"
    size_bytes = _minute(plain)
    message = "sei_user_data=086f3693-b7b3-4f2c-9653-21492feee5b8+" + SECRET.decode().replace(" ", "_")
    ffmpeg("-i", plain, "-c", "copy", "-bsf:v", f"h264_metadata={message}", path)
    secret = SECRET.replace(b" ", b"_")
    assert path.read_bytes().count(secret) > 1
    with store_of(path) as store:
        plan = store.examine(fmt)
        assert store.fetched_bytes >= size_bytes
    assert secret not in apply_patches(plan.patches, path.read_bytes())
    assert plan.patches == examine(path).patches


@pytest.mark.parametrize("fmt", [Format.MP4, Format.MKV], ids=lambda fmt: fmt.value)
def test_a_large_video_with_an_encoders_single_note_is_not_read_whole(fmt: Format, tmp_path: Path) -> None:
    path, target = tmp_path / f"large.{fmt.value}", tmp_path / f"scrubbed.{fmt.value}"
    size_bytes = _minute(path)
    with store_of(path) as store:
        plan = store.examine(fmt)
        assert store.fetched_bytes < size_bytes / 2
    target.write_bytes(apply_patches(plan.patches, path.read_bytes()))
    assert b"x264 - core" not in target.read_bytes()
    assert frames(target) == frames(path) != []


def test_the_first_seconds_of_a_second_video_are_read_too(tmp_path: Path) -> None:
    plain, private, path = (tmp_path / f"{each}.mp4" for each in ("plain", "private", "both"))
    _minute(plain)
    coded_videos.h264(private)
    ffmpeg("-i", plain, "-itsoffset", "30", "-i", private, "-map", "0", "-map", "1", "-c", "copy", path)
    with store_of(path) as store:
        plan = store.examine(Format.MP4)
    assert SECRET not in apply_patches(plan.patches, path.read_bytes())
    assert plan.patches == examine(path).patches


def test_of_a_codec_without_such_messages_no_picture_is_read() -> None:
    path = Path(__file__).parent / "data" / "mp4-vp9-anamorphic.mp4"
    with store_of(path) as store:
        store.examine(Format.MP4)
        assert store.fetched_bytes < path.stat().st_size / 2


AVCC, HVCC = b"\1\x64\0\x0b\xff", b"\1".ljust(22, b"\xff")  # lengths of four bytes


CUT_OFF: tuple[tuple[Coding, bytes], ...] = (
    (nal.H264, b"\0\0\0\x09\x06\x05\xff\xff\xff"),
    (nal.H264, b"\0\0\0\x05\x06\x05\x10ab"),
    (nal.H264, b"\0\0\0\x01\x06"),
    (nal.H264, b"\0\0\0\x03\x06\x05\x80"),
    (nal.HEVC, b"\0\0\0\x01\x4e"),
    (nal.HEVC, b"\0\0\0\x04\x4e\x01\x05\xff"),
    (obu, b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    (obu, b"\x2a\x00"),
    (obu, b"\x2e"),
    (motion_jpeg, b"\xff\xd8\xff\xfe\x00\x00"),
    (motion_jpeg, b"\xff\xd8\xff\xfe\xff\xffab"),
    *((coding, b"") for coding in (nal.H264, nal.HEVC, obu, motion_jpeg)),
)


@pytest.mark.parametrize(("coding", "sample"), CUT_OFF, ids=str)
def test_changes_stay_inside_what_is_cut_off(coding: Coding, sample: bytes) -> None:
    samples = (coding.changes_of_sample(private, sample) for private in (sample, AVCC, HVCC))
    for changes in (*samples, coding.changes_of_private(sample)):
        position = 0
        for offset, new in changes:
            assert position <= offset < offset + len(new) <= len(sample)
            position = offset + len(new)


_VP8 = bytes.fromhex("50bc029d012a800264010047088585888584888682224b")
_FRAME = b"\x32\x03\x10\x00\x55"


@pytest.mark.parametrize(("coding", "sample"), [
    (obu, _VP8),  # a reserved unit without a size, as AV1
    (obu, b"\x52\x02\x01\x02" + b"\x12\x00"),
    (obu, b"\x2a\x03\x1fab" + _FRAME[:-1]),
    (obu, b"\xaa\x03\x1fab" + _FRAME),  # the first bit must be 0
    (nal.H264, b"\0\0\x01\x05\x06\x05\x10" + b"\x11" * 300),  # start codes
    (nal.HEVC, b"\0\0\0\x05\x4e\x01\x05\x01a" + b"\0\0\x01\x00" + bytes(16)),
    (motion_jpeg, _VP8 + b"\xff\xe1\0\x04ab\xff\xfe\0\x04ab\xff\xd9"),
], ids=str)  # fmt: skip
def test_what_is_not_coded_as_its_track_says_stays_as_it_is(coding: Coding, sample: bytes) -> None:
    """It may be a picture of something else. Decoders of that coding take none of it."""
    assert list(coding.changes_of_sample(HVCC, sample)) == []


def test_private_units_of_av1_go_wherever_there_is_a_frame() -> None:
    reserved, metadata = b"\x52\x02ab", b"\x2a\x03\x1fab"
    (first, second) = obu.changes_of_sample(b"", reserved + _FRAME + metadata)
    assert first == (0, b"\x7a\x02\0\x80")
    assert second == (len(reserved + _FRAME), b"\x7a\x03\0\0\x80")


def test_a_message_that_is_cut_off_is_overwritten_too() -> None:
    unit = b"\x06\x05\x40" + SECRET
    ((offset, new),) = nal.H264.changes_of_sample(AVCC, len(unit).to_bytes(4, "big") + unit)
    assert (offset, new) == (4 + 1, b"\x03\x40" + b"\xff" * len(SECRET))


def test_a_message_behind_two_zeros_keeps_its_type() -> None:
    """There a 3 would be taken for an escape, and all that follows for something else."""
    needed = b"\x06\x02\0\0"
    unit = b"\x06" + needed + b"\x05\x04LEAK" + b"\x80"
    ((offset, new),) = nal.H264.changes_of_sample(AVCC, len(unit).to_bytes(4, "big") + unit)
    assert (offset, new) == (4 + 1 + len(needed), b"\x05\x04\xff\xff\xff\xff")


_FORBIDDEN = re.compile(rb"\0\0(?:[\0-\x02]|\x03[^\0-\x03])")  # a start code, or an escape of nothing
_BYTES = st.lists(st.sampled_from(b"\0\1\3A\x80\xff"), max_size=20).map(bytes)
_MESSAGES = st.lists(st.tuples(st.sampled_from(b"\0\4\5\x13\xc8"), _BYTES))


@given(st.sampled_from([(nal.H264, b"\x06"), (nal.HEVC, b"\x4e\x01")]), _MESSAGES, _BYTES)
@example((nal.H264, b"\x06"), [(5, b"\0\0\1\0\0\1")], b"")
def test_filler_makes_no_start_code(
    codec: tuple[nal.Codec, bytes], messages: list[tuple[int, bytes]], behind: bytes
) -> None:
    content = b"".join(bytes((kind, len(each))) + each for kind, each in messages) + behind + b"\x80"
    unit = codec[1] + re.sub(rb"\0\0(?=[\0-\x03])", b"\0\0\3", content)
    sample = len(unit).to_bytes(4, "big") + unit
    scrubbed = bytearray(sample)
    for offset, new in codec[0].changes_of_sample(HVCC, sample):
        scrubbed[offset : offset + len(new)] = new
    assert scrubbed[:4] == sample[:4]
    assert len(scrubbed) == len(sample)
    assert not _FORBIDDEN.search(scrubbed, 4)
    assert list(codec[0].changes_of_sample(HVCC, bytes(scrubbed))) == []


@pytest.mark.parametrize("name", ["vp09", "V_VP9", "mp4v"])
def test_other_codecs_are_left_as_they_are(name: str) -> None:
    assert CODINGS[name] is None


_UNKNOWN = [
    ("h264", "mp4", b"avc1", b"AVC1"),
    ("motion jpeg", "mov", b"jpeg", b"MJPG"),
    # Under the name of MPEG-4 part 2, the type of the objects: Motion JPEG's to those of H.264 and PNG.
    ("motion jpeg", "mp4", b"\x04\x80\x80\x80\x0d\x6c", b"\x04\x80\x80\x80\x0d\x21"),
    ("motion jpeg", "mp4", b"\x04\x80\x80\x80\x0d\x6c", b"\x04\x80\x80\x80\x0d\x6d"),
    ("h264", "mkv", b"V_MPEG4/ISO/AVC", b"V_MS/VFW/FOURCC"),
]


def _renamed(path: Path, known: bytes, unknown: bytes, *, first: bool = True) -> None:
    """Change the coding that the file names for its first or last track."""
    data = path.read_bytes()
    at = data.index(known, max(0, data.find(b"stsd"))) if first else data.rindex(known)
    path.write_bytes(data[:at] + unknown + data[at + len(known) :])


@pytest.mark.parametrize(("name", "container", "known", "unknown"), _UNKNOWN)
def test_a_video_of_an_unknown_coding_is_unsupported(
    name: str, container: str, known: bytes, unknown: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"video.{container}"
    MAKERS[name](path)
    _renamed(path, known, unknown)
    with pytest.raises(ScrubError, match="video codec") as caught:
        examine(path)
    assert caught.value.code is ScrubCode.UNSUPPORTED


def test_mpeg_4_part_2_is_known_by_its_name_alone(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=1", "-c:v", "mpeg4", path)
    _renamed(path, b"esds", b"free")
    assert examine(path).pixels == 160 * 120


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize(("name", "container", "known", "unknown"), _UNKNOWN)
def test_a_video_of_an_unknown_coding_goes_beside_another(
    name: str, container: str, known: bytes, unknown: bytes, first: bool, tmp_path: Path
) -> None:
    private, plain, path, target = (tmp_path / f"{each}.{container}" for each in ("private", "plain", "path", "target"))
    MAKERS[name](private)
    make(plain, "-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=2")
    sources = (private, plain) if first else (plain, private)
    ffmpeg("-i", sources[0], "-i", sources[1], "-map", "0", "-map", "1", "-c", "copy", path)
    _renamed(path, known, unknown, first=first)
    assert SECRET in path.read_bytes()
    scrub(path, target)
    assert SECRET not in target.read_bytes()
    assert len(probe(target)["streams"]) == 1
    shown, expected = ([frame.digest for frame in frames(each)] for each in (target, plain))
    assert shown == expected


def _with_second_entry(data: bytes, change: tuple[bytes, bytes]) -> bytes:
    """Repeat the sample entry of the only track, with a change in it."""
    at = data.index(b"stsd") + 12
    end = at + int.from_bytes(data[at : at + 4], "big")
    entry = data[at:end].replace(*change)
    assert len(entry) == end - at
    parents, enlarged = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"), bytearray(data)
    for place in (at - 4, *(data.index(parent, data.index(b"moov")) - 4 for parent in parents)):
        added = 1 if place == at - 4 else len(entry)
        enlarged[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + added).to_bytes(4, "big")
    return bytes(enlarged[:end] + entry + enlarged[end:])


@pytest.mark.parametrize(("change", "reason"), [
    ((b"", b""), None),
    ((b"avc1", b"avc3"), None),
    ((b"avc1", b"jpeg"), ScrubCode.UNSUPPORTED),
    ((b"avc1", b"hvc1"), ScrubCode.UNSUPPORTED),
    ((b"avc1", b"vp09"), ScrubCode.UNSUPPORTED),
    ((b"\xff\xe1", b"\xfd\xe1"), ScrubCode.UNSUPPORTED),  # the size of the length before a unit
    ((b"avc1", b"encv"), ScrubCode.ENCRYPTED),
], ids=str)  # fmt: skip
def test_samples_of_all_entries_are_coded_alike(
    change: tuple[bytes, bytes], reason: ScrubCode | None, tmp_path: Path
) -> None:
    path, target = tmp_path / "video.mp4", tmp_path / "scrubbed.mp4"
    coded_videos.h264(path)
    path.write_bytes(_with_second_entry(path.read_bytes(), change))
    if reason is not None:
        with pytest.raises(ScrubError) as caught:
            examine(path)
        assert caught.value.code is reason
        return
    scrub(path, target)
    assert SECRET not in target.read_bytes()
    assert frames(target) == frames(path) != []


_APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_NEEDED = {
    "JFIF": (_APP0, b"JFIF\0\1\2\0\0\1\0\1\0\0"),
    "AVI": (_APP0, b"AVI1\1\0" + bytes(8)),
    "AVI, padded": (_APP0, b"AVI1\1\0" + bytes(10)),
    "Adobe": (_APP14, b"Adobe\0\x64\0\0\0\0\1"),
    "QuickTime": (_APP1, bytes(4) + b"mjpg" + bytes(32)),
    "limited range": (_COM, b"CS=ITU601"),
    "wide pixels": (_COM, b"MULTISCOPE II\0"),
    "upside down": (_COM, b"Intel(R) JPEG Library, version 1"),
    "upside down, otherwise": (_COM, b"Metasoft MJPEG Codec\0"),
    "upper field first": (_COM, b"AVID".ljust(12, b"\0") + b"\2" + bytes(48)),
}
_PRIVATE = {
    "text in APP0": (_APP0, SECRET),
    "JFIF with a thumbnail": (_APP0, _NEEDED["JFIF"][1][:12] + b"\1\1" + b"RGB"),
    "JFXX": (_APP0, b"JFXX\0\x10" + SECRET),
    "a long AVI": (_APP0, b"AVI1\1\0" + bytes(11)),
    "a long Adobe": (_APP14, _NEEDED["Adobe"][1] + SECRET),
    "text in APP14": (_APP14, SECRET),
    "a long QuickTime": (_APP1, _NEEDED["QuickTime"][1] + SECRET),
    "XMP": (_APP1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET),
    "JFIF in APP1": (_APP1, _NEEDED["JFIF"][1]),
    "a profile": (_APP2, b"ICC_PROFILE\0\1\1" + SECRET),
    "a comment": (_COM, SECRET),
    "a longer instruction": (_COM, b"CS=ITU601" + SECRET),
    "Avid without fields": (_COM, b"AVID" + SECRET),
}


def _frame_with(marker: int, content: bytes) -> tuple[bytes, bytes, bytes]:
    """A JPEG in three parts, of which the second is that segment."""
    plain = saved(Image.new("RGB", (16, 16)), "JPEG")
    return plain[:20], jpeg_segment(marker, content), plain[20:]


@pytest.mark.parametrize("segment", _NEEDED.values(), ids=_NEEDED)
def test_what_decoders_of_motion_jpeg_use_stays(segment: tuple[int, bytes]) -> None:
    assert list(motion_jpeg.changes_of_sample(b"", b"".join(_frame_with(*segment)))) == []


@pytest.mark.parametrize("segment", _PRIVATE.values(), ids=_PRIVATE)
def test_other_application_data_of_motion_jpeg_goes(segment: tuple[int, bytes]) -> None:
    before, _, behind = _frame_with(*segment)
    sample = bytearray(b"".join(_frame_with(*segment)))
    for offset, new in motion_jpeg.changes_of_sample(b"", bytes(sample)):
        sample[offset : offset + len(new)] = new
    assert sample == before + jpeg_segment(_APP15, bytes(len(segment[1]))) + behind


@pytest.mark.parametrize(
    ("comment", "instruction"),
    [
        (b"CS=ITU601\n", b"CS=ITU601"),
        (b"CS=ITU601\0" + SECRET, b"CS=ITU601"),
        (b"Intel(R) JPEG Library, version 1,5,4,36 " + SECRET, b"Intel(R) JPEG Library, version 1"),
        (b"AVID\x11" + SECRET[:7] + b"\1" + SECRET, b"AVID".ljust(12, b"\0") + b"\1"),
    ],
)
def test_of_a_comment_only_its_instruction_stays(comment: bytes, instruction: bytes) -> None:
    before, segment, behind = _frame_with(_COM, comment)
    sample = before + segment + behind
    ((offset, new),) = motion_jpeg.changes_of_sample(b"", sample)
    scrubbed = sample[:offset] + new + sample[offset + len(new) :]
    assert scrubbed == before + jpeg_segment(_COM, instruction.ljust(len(comment), b"\0")) + behind


def test_the_limited_range_of_motion_jpeg_is_shown_as_before(tmp_path: Path) -> None:
    """ffmpeg writes it as a comment, beside another one with its version."""
    path, target = tmp_path / "video.mov", tmp_path / "scrubbed.mov"
    limited = ("-c:v", "mjpeg", "-pix_fmt", "yuv420p", "-color_range", "tv", "-strict", "unofficial")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=1", *limited, path)
    scrub(path, target)
    assert path.read_bytes().count(b"Lavc") > target.read_bytes().count(b"Lavc") == 0
    shown, expected = (probe(each)["streams"][0] for each in (target, path))
    assert shown["color_range"] == expected["color_range"] == "tv"


@pytest.mark.parametrize("name", ["mjpb", "MJPG", "AVC1", "H264", "V_MS/VFW/FOURCC", ""])  # mjpb: JPEG without markers
def test_names_that_only_libav_decodes_are_unknown(name: str) -> None:
    assert name not in CODINGS
