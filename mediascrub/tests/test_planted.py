"""Texts in each place of a file that a writer can fill: none is found in the bytes that are published."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediascrub import Format
from mediascrub.codec_private import neutral_esds
from mediascrub.heif.meta import Extents
from mediascrub.ranges import Range

from .coded_videos import MAKERS, SECRET
from .made_files import box, full_box, original_of
from .made_heif import MadeHeif, MadeItem
from .samples import decode
from .videos import ffmpeg, frames, scrub

_SOURCES = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=1", "-f", "lavfi", "-i", "sine=d=1")
_COLOURS = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
_CHILDREN_AT = {b"stsd": 8, b"avc1": 78, b"mp4a": 28}
_TABLES = ("moov", "trak", "mdia", "minf", "stbl")
_AVC1, _MP4A = (*_TABLES, "stsd", "avc1"), (*_TABLES, "stsd", "mp4a")
# Where a box ends with a text, of the first track that has it.
_ENDS: list[tuple[str, ...]] = [
    ("moov", "mvhd"),
    *(("moov", "trak", *path) for path in (("tkhd",), ("edts", "elst"), ("mdia", "mdhd"), ("mdia", "hdlr"))),
    ("moov", "trak", "mdia", "minf", "vmhd"),
    ("moov", "trak", "mdia", "minf", "dinf", "dref"),
    *((*_TABLES, kind) for kind in ("stsd", "stts", "ctts", "stss", "stsc", "stsz", "stco", "sgpd", "sbgp")),
    *((*_AVC1, kind) for kind in ("avcC", "colr", "pasp")),
]
_ENDS_IN_MP4 = [(*_AVC1, "btrt"), (*_MP4A, "esds")]
_ENDS_IN_MOV = [(*_MP4A, "chan"), (*_MP4A, "wave", "esds"), (*_MP4A, "wave", "mp4a"), (*_MP4A, "wave", "frma")]
# Parents, and the boxes with nothing but a text that are added to them.
_WHOLE: dict[tuple[str, ...], str] = {
    (): "uuid ftyp styp sidx ssix mfra meta udta free",
    ("moov",): "udta meta mvhd iods",
    ("moov", "trak"): "load trgr udta meta tapt tref tkhd",
    ("moov", "trak", "mdia"): "elng hdlr mdhd",
    ("moov", "trak", "mdia", "minf"): "nmhd sthd gmhd hdlr vmhd",
    _TABLES: "cslg stsh sdtp stdp padb subs stz2 stss stts ctts stsz stco stps sgpd sbgp",
    _AVC1: "vpcC d263 ACLR ARES AALP APRG fiel gama clap mdcv clli SmDm CoLL cclv amve dvcC st3d sv3d vexu ccst "
    "auxi colr nclc jp2h avcC glbl",
    _MP4A: "chan chnl srat SA3D damr wave btrt dmlp udts mhaP esds",
}
_WHOLE_IN_MOV = _WHOLE | {_MP4A: "SA3D damr dmlp glbl alac", (*_MP4A, "wave"): "chan alac QDCA udta"}


class _Planter:
    """Adds texts to a file whose index comes last, so that no sample moves."""

    def __init__(self, data: bytes) -> None:
        self._children_at = _CHILDREN_AT | ({b"mp4a": 44} if b"wave" in data else {})  # QuickTime's version 1
        self.data = bytearray(data)
        self.texts: dict[bytes, str] = {}

    def _text(self, *place: str) -> bytes:
        text = b"PLANTED %02d 51.4779N" % len(self.texts)
        self.texts[text] = "/".join(place)
        return text

    def end_of(self, path: tuple[str, ...]) -> None:
        """Let the box end with a text, behind what ends a list of boxes."""
        self._insert(path, bytes(4) + self._text(*path))

    def add(self, parent: tuple[str, ...], kind: str) -> None:
        """Add a box with nothing but a text."""
        content = bytes(4) + self._text(*parent, kind)
        self._insert(parent, struct.pack(">I", 8 + len(content)) + kind.encode() + content)

    def _insert(self, path: tuple[str, ...], new: bytes) -> None:
        found = next(self._paths([kind.encode() for kind in path], 0, len(self.data)), None)
        assert found is not None, "/".join(path)
        end = found[-1][1] if found else len(self.data)
        for start, _ in found:
            (size,) = struct.unpack_from(">I", self.data, start)
            struct.pack_into(">I", self.data, start, size + len(new))
        self.data[end:end] = new

    def _paths(self, path: list[bytes], start: int, end: int) -> Iterator[list[tuple[int, int]]]:
        if not path:
            yield []
            return
        while start + 8 <= end and any(self.data[start : start + 4]):
            size, kind = struct.unpack_from(">I4s", self.data, start)
            if kind == path[0]:
                for deeper in self._paths(path[1:], start + 8 + self._children_at.get(kind, 0), start + size):
                    yield [(start, start + size), *deeper]
            start += size


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_texts_in_boxes(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"planted.{suffix}", tmp_path / f"clean.{suffix}"
    ffmpeg(*_SOURCES, "-vf", _COLOURS, path)
    planter = _Planter(path.read_bytes())
    ends, wholes = ([*_ENDS, *_ENDS_IN_MP4], _WHOLE) if suffix == "mp4" else ([*_ENDS, *_ENDS_IN_MOV], _WHOLE_IN_MOV)
    for each in ends:
        planter.end_of(each)
    for parent, kinds in wholes.items():
        for kind in kinds.split():
            planter.add(parent, kind)
    expected = frames(path)
    path.write_bytes(planter.data)
    assert len(planter.texts) > 90
    scrub(path, target)
    clean = target.read_bytes()
    assert [place for text, place in planter.texts.items() if text in clean] == []
    assert frames(target) == expected != []


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_the_notes_of_a_vorbis_encoder(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"sound.{suffix}", tmp_path / f"clean.{suffix}"
    ffmpeg(*_SOURCES, "-c:a", "libvorbis", "-metadata:s:a", "title=PLANTED", path)
    assert b"Xiph.Org" in path.read_bytes()
    scrub(path, target)
    assert [text for text in (b"Xiph.Org", b"PLANTED", b"Lavc") if text in target.read_bytes()] == []
    assert frames(target) == frames(path) != []


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes((tag, 0x80, 0x80, 0x80, len(content))) + content


def test_texts_in_descriptors_of_a_stream(tmp_path: Path) -> None:
    """ISO/IEC 14496-1: extensions and languages beside what decoders read, and what follows a configuration."""
    config, texts = bytes.fromhex("1208"), [b"PLANTED %d 51.4779N" % number for number in range(4)]
    decoder = bytes.fromhex("4015000000000000000000000000"[:26]) + _descriptor(5, config + texts[0])
    stream = bytes(3) + _descriptor(4, decoder + _descriptor(0x14, texts[1])) + _descriptor(6, b"\2")
    content = bytes(4) + _descriptor(3, stream + _descriptor(0x43, texts[2])) + texts[3]
    clean = neutral_esds(content)
    assert len(clean) == len(content)
    assert [text for text in texts if text in clean] == []
    assert clean.startswith(content[: content.index(config) + len(config)])
    assert neutral_esds(clean) == clean


def _lengths_at(data: bytearray, at: int, end: int) -> list[int]:
    """Return where the lengths before units are; none if these do not reach to the end."""
    found: list[int] = []
    while at < end:
        found.append(at)
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    return found if at == end else []


@pytest.mark.parametrize("absent", [True, False], ids=["no configuration", "another version"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_messages_behind_start_codes(codec: str, suffix: str, absent: bool, tmp_path: Path) -> None:
    """ITU-T H.264, annex B: libav decodes it if there is no configuration that it knows."""
    path, target = tmp_path / f"video.{suffix}", tmp_path / f"clean.{suffix}"
    MAKERS[codec](path)
    expected = frames(path)
    data = bytearray(path.read_bytes())
    packets = ("-show_packets", "-select_streams", "v", "-show_entries", "packet=pos,size", "-of", "csv=p=0")
    for line in subprocess.run(
        ("ffprobe", "-v", "error", *packets, path), capture_output=True, text=True
    ).stdout.split():
        size, position = map(int, line.split(",")[:2])
        heads = range(position, position + 12)  # in Matroska the head of a block comes first
        for at in next(filter(None, (_lengths_at(data, head, head + size) for head in heads))):
            data[at : at + 4] = b"\0\0\0\1"
    name = {"mkv": b"\x63\xa2", "h264": b"avcC", "hevc": b"hvcC"}[suffix if suffix == "mkv" else codec]
    start = data.index(name)
    if absent:
        data[start : start + len(name)] = {"mkv": b"\x63\xa1", "mp4": b"free"}[suffix]
    else:
        content = start + len(name) + (2 if suffix == "mkv" and codec == "hevc" else suffix == "mkv")
        assert data[content] == 1
        data[content : content + 3] = bytes(3)
    path.write_bytes(data)
    assert SECRET in data
    scrub(path, target)
    assert SECRET not in target.read_bytes()
    assert b"x26" not in target.read_bytes()
    assert frames(target) == frames(path)
    if absent:  # with another version of its configuration libav does not decode HEVC in Matroska
        assert [frame.digest for frame in frames(target)] == [frame.digest for frame in expected]


def test_messages_in_a_heic(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    MAKERS["hevc"](video)
    data = video.read_bytes()
    start = data.index(b"hvcC") - 4
    configuration = data[start : start + int.from_bytes(data[start : start + 4], "big")]
    sizes, places = data.index(b"stsz") + 16, data.index(b"stco") + 12
    size, place = (int.from_bytes(data[at : at + 4], "big") for at in (sizes, places))
    extent = full_box(b"ispe", 0, 0, struct.pack(">II", 160, 120))
    item = MadeItem(1, b"hvc1", data[place : place + size], (extent, b"!" + configuration))
    heic = MadeHeif(items=(item,), file_type=box(b"ftyp", b"heic", bytes(4), b"mif1heicPLANTED!")).build()
    assert SECRET in heic
    clean = original_of(heic, Format.HEIC)
    assert [text for text in (SECRET, b"x265", b"PLANTED!") if text in clean] == []
    assert decode(clean, Format.HEIC).frames == decode(heic, Format.HEIC).frames


def test_a_picture_in_two_parts_is_cleaned_as_one() -> None:
    coded = Extents(memoryview(b"AAApriBBvateCCC"))
    coded.keep_coded([Range(3, 3), Range(8, 4)], lambda data: [(data.index(b"private"), bytes(7))])
    assert coded.pack() == bytes(7)
