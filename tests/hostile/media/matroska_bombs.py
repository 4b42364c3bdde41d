"""WebM and MKV: sizes that are unknown or absurd, lacing that lies, indices in circles, compressed frames."""

from __future__ import annotations

import struct

from avion_media.common.errors import Reason
from mediascrub.tests.made_matroska import (
    ATTACHMENTS,
    CLUSTER,
    CODEC_ID,
    CONTENT_ENCODINGS,
    CUES,
    EBML,
    SEEK_HEAD,
    SIMPLE_BLOCK,
    TAGS,
    TRACK_ENTRY,
    TRACKS,
    UNKNOWN,
    block,
    cluster,
    element,
    file_of,
    first_frame,
    good_cluster,
    info,
    number,
    plain,
    track,
)
from tests.hostile.media.bomb import READY, Bomb, zeros

MIB = 1 << 20


def vp8_sized(width: int, height: int) -> bytes:
    """The first picture whose own header says another size."""
    data = bytearray(first_frame())
    struct.pack_into("<HH", data, 6, width, height)
    return bytes(data)


def compressed(megabytes: int) -> bytes:
    """A frame of zeros, compressed as Matroska can."""
    compression = element(0x5034, number(0x4254, 0, 1))
    encodings = element(CONTENT_ENCODINGS, element(0x6240, number(0x5031, 0, 1), number(0x5032, 1, 1), compression))
    return file_of(info(), track(640, 360, b"V_VP8", encodings), cluster(block(zeros(megabytes))))


def nested_unknown(depth: int) -> bytes:
    """Clusters of unknown size, each inside the one before."""
    return file_of(info(), track(), element(CLUSTER, size=UNKNOWN) * depth + good_cluster(), size=UNKNOWN)


def cues_of_themselves() -> bytes:
    """A SeekHead that leads to cues, which say that the first cluster is where they are."""
    seek = element(SEEK_HEAD, element(0x4DBB, element(0x53AB, CUES.to_bytes(4, "big")), number(0x53AC, 0)))
    position = len(seek)
    seek = element(SEEK_HEAD, element(0x4DBB, element(0x53AB, CUES.to_bytes(4, "big")), number(0x53AC, position)))
    point = element(0xBB, number(0xB3, 0), element(0xB7, number(0xF7, 1), number(0xF1, position)))
    return file_of(seek, element(CUES, point * 2000), info(), track(), good_cluster())


def seek_heads_in_a_circle() -> bytes:
    """A SeekHead that leads to itself, ten thousand times."""
    seek = element(0x4DBB, element(0x53AB, SEEK_HEAD.to_bytes(4, "big")), number(0x53AC, 0))
    return file_of(element(SEEK_HEAD, seek * 10_000), info(), track(), good_cluster())


def renamed(codec: bytes) -> bytes:
    """The good picture (VP8) under the name of another codec."""
    return file_of(info(), track(640, 360, codec), good_cluster())


def shaped(width: int, height: int) -> bytes:
    """The good picture in a track of another size."""
    return file_of(info(), track(width, height), good_cluster())


def subtitled(lines: int) -> bytes:
    """Blocks of a text track, each between two of the picture's: nothing private lies beside another."""
    text = number(0x73C5, 2) + number(0x83, 17, 1) + element(CODEC_ID, b"S_TEXT/UTF8")
    both = element(TRACKS, track()[12:], element(TRACK_ENTRY, number(0xD7, 2), text))
    line = element(SIMPLE_BLOCK, b"\x82\0\0\x80", b"words") + element(SIMPLE_BLOCK, b"\x81\0\0\0", b"\0")
    return file_of(info(), both, cluster(block(first_frame()), line * lines))


_XIPH, _EBML_LACING, _FIXED = 0x82, 0x86, 0x84

BOMBS = (
    Bomb("65535x65535.webm", lambda: shaped(65_535, 65_535), Reason.BAD_DIMENSIONS),
    Bomb("4-billion-wide.mkv", lambda: shaped(0xFFFFFFFF, 0xFFFFFFFF), Reason.BAD_DIMENSIONS),
    Bomb("16000x16000.mkv", lambda: shaped(16_000, 16_000), Reason.TOO_MANY_PIXELS),
    Bomb("no-size.webm", lambda: shaped(0, 0), Reason.BAD_DIMENSIONS),
    Bomb("ribbon.webm", lambda: shaped(16_000, 16), Reason.BAD_ASPECT),
    Bomb(
        "picture-of-16383x16383.webm",
        lambda: file_of(info(), track(), cluster(block(vp8_sized(16_383, 16_383)))),
        Reason.CORRUPT,
    ),
    Bomb(
        "picture-of-another-size.webm", lambda: file_of(info(), track(), cluster(block(vp8_sized(4096, 4096)))), READY
    ),
    Bomb("vp8-as-vp9.webm", lambda: renamed(b"V_VP9"), Reason.CORRUPT),
    Bomb("vp8-as-av1.webm", lambda: renamed(b"V_AV1"), Reason.CORRUPT),
    Bomb("vp8-as-h264.mkv", lambda: renamed(b"V_MPEG4/ISO/AVC"), Reason.CORRUPT),
    Bomb("vp8-as-hevc.mkv", lambda: renamed(b"V_MPEGH/ISO/HEVC"), Reason.CORRUPT),
    Bomb("vp8-as-raw.mkv", lambda: renamed(b"V_UNCOMPRESSED"), Reason.UNSUPPORTED_TYPE),
    Bomb("vp8-as-an-exotic-codec.mkv", lambda: renamed(b"V_REAL/RV40"), Reason.UNSUPPORTED_TYPE),
    Bomb("vp8-as-nothing.mkv", lambda: renamed(b"V_" + b"Z" * 10_000), Reason.UNSUPPORTED_TYPE),
    Bomb("noise-for-pictures.webm", lambda: file_of(info(), track(), cluster(block(b"\xa5" * 5000))), Reason.CORRUPT),
    Bomb("frame-of-a-gigabyte-compressed.mkv", lambda: compressed(1024), Reason.CORRUPT),
    Bomb(
        "lacing-of-xiph-that-lies.mkv",
        lambda: file_of(info(), track(), cluster(block(b"\xff" * 300, _XIPH))),
        Reason.CORRUPT,
    ),
    Bomb(
        "lacing-of-ebml-that-lies.mkv",
        lambda: file_of(info(), track(), cluster(block(b"\x10\xff" + UNKNOWN * 9, _EBML_LACING))),
        Reason.CORRUPT,
    ),
    Bomb(
        "lacing-of-fixed-sizes-that-lies.mkv",
        lambda: file_of(info(), track(), cluster(block(b"\xff\0\0", _FIXED))),
        Reason.CORRUPT,
    ),
    Bomb("nested-unknown-sizes.webm", lambda: nested_unknown(50_000), READY),
    Bomb(
        "250000-clusters.webm",
        lambda: file_of(info(), track(), good_cluster(), element(CLUSTER) * 250_000),
        Reason.TOO_COMPLEX,
    ),
    Bomb("a-million-elements.webm", lambda: file_of(b"\xec\x80" * 1_000_000), Reason.TOO_COMPLEX),
    Bomb(
        "element-of-exabytes.webm",
        lambda: file_of(info(), track(), element(TAGS, size=b"\x01" + b"\xff" * 6 + b"\xfe"), good_cluster()),
        Reason.CORRUPT,
    ),
    Bomb(
        "tracks-of-exabytes.webm",
        lambda: file_of(info(), element(TRACKS, size=b"\x01" + b"\xff" * 6 + b"\xfe"), good_cluster()),
        Reason.CORRUPT,
    ),
    Bomb(
        "tracks-without-a-size.webm",
        lambda: file_of(info(), element(TRACKS, size=UNKNOWN), good_cluster()),
        Reason.CORRUPT,
    ),
    Bomb(
        "tracks-of-70-megabytes.mkv",
        lambda: file_of(info(), track(640, 360, b"V_VP8", element(0x536E, bytes(70 * MIB))), good_cluster()),
        Reason.TOO_LARGE,
    ),
    Bomb("1000-tracks.mkv", lambda: file_of(info(), track(count=1000), good_cluster()), Reason.CORRUPT),
    Bomb("cues-of-themselves.webm", cues_of_themselves, READY),
    Bomb("seek-heads-in-a-circle.webm", seek_heads_in_a_circle, READY),
    Bomb("20000-subtitles.mkv", lambda: subtitled(20_000), READY),
    Bomb("60000-subtitles.mkv", lambda: subtitled(60_000), READY),
    Bomb("no-clock.webm", lambda: file_of(info(scale=0), track(), good_cluster()), Reason.CORRUPT),
    Bomb(
        "slow-clock.webm",
        lambda: file_of(info(scale=(1 << 64) - 1, seconds=1e6), track(), good_cluster()),
        Reason.TOO_LONG,
    ),
    Bomb("endless.webm", lambda: file_of(info(seconds=float("inf")), track(), good_cluster()), READY),
    Bomb("no-cluster.webm", lambda: file_of(info(), track()), Reason.CORRUPT),
    Bomb("no-block.webm", lambda: file_of(info(), track(), cluster()), Reason.CORRUPT),
    Bomb("no-picture.mkv", lambda: file_of(info(), element(TRACKS), good_cluster()), Reason.NO_VIDEO),
    Bomb(
        "attached-program.mkv",
        lambda: file_of(
            info(), track(), element(ATTACHMENTS, element(0x61A7, element(0x465C, b"\x7fELF" * 1000))), good_cluster()
        ),
        READY,
    ),
    Bomb(
        "header-of-a-megabyte.webm",
        lambda: element(EBML, element(0x4282, b"webm"), bytes(MIB)) + plain()[40:],
        Reason.CORRUPT,
    ),
)
