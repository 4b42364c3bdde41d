"""MP4 and MOV: tables that count to billions, boxes that nest, overflow or lie, and samples that are something else."""

from __future__ import annotations

import struct
import subprocess
from functools import cache

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import box, full_box
from mediascrub.tests.samples import DATA
from tests.hostile.media.bomb import READY, Bomb
from tests.hostile.media.sps import h264_parameters

MIB = 1 << 20
MAX32 = 0xFFFFFFFF
_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts")


@cache
def plain() -> bytes:
    """A good video whose index comes last, so that it may grow."""
    return (DATA / "mp4-h264-moov-at-end.mp4").read_bytes()


def forged(kind: bytes, content: bytes, parents: tuple[bytes, ...] = (b"stbl", b"minf", b"mdia", b"trak")) -> bytes:
    """The good video with the first box of that type replaced, and the boxes around it grown."""
    data = bytearray(plain())
    moov = data.index(b"moov")
    at = data.index(kind, moov) - 4
    old = int.from_bytes(data[at : at + 4], "big")
    new = box(kind, content)
    for parent in (*parents, b"moov"):
        start = data.rindex(parent, moov, at) - 4
        struct.pack_into(">I", data, start, int.from_bytes(data[start : start + 4], "big") + len(new) - old)
    data[at : at + old] = new
    return bytes(data)


def overwritten(kind: bytes, offset: int, content: bytes) -> bytes:
    """The good video with bytes behind a box type in its index overwritten."""
    data = bytearray(plain())
    at = data.index(kind, data.index(b"moov")) + 4 + offset
    data[at : at + len(content)] = content
    return bytes(data)


def index_of(*boxes: bytes) -> bytes:
    """A file of an index with these boxes, and nothing else."""
    return plain()[: int.from_bytes(plain()[:4], "big")] + box(b"moov", *boxes)


def nested(depth: int) -> bytes:
    """Tracks in tracks."""
    data = b""
    for _ in range(depth):
        data = box(b"trak", data)
    return index_of(data)


def headed(header: bytes) -> bytes:
    """The good video with a forged box header before its index."""
    at = plain().index(b"moov") - 4
    return plain()[:at] + header + plain()[at:]


def of_codec(name: bytes) -> bytes:
    """The good video (H.264) under the name of another codec."""
    return overwritten(b"avc1", -4, name)


def handled_by(handler: bytes) -> bytes:
    """The good video whose every track is said to be something else."""
    return plain().replace(b"vide", handler).replace(b"soun", handler)


def with_parameters(width: int, height: int) -> bytes:
    """The good video whose decoder is told of pictures of another size than its container says."""
    configuration = h264_parameters(width, height)
    data = bytearray(plain())
    moov = data.index(b"moov")
    at = data.index(b"avcC", moov) - 4
    old = int.from_bytes(data[at : at + 4], "big")
    new = box(b"avcC", configuration)
    for parent in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = data.rindex(parent, moov - 4, at) - 4
        struct.pack_into(">I", data, start, int.from_bytes(data[start : start + 4], "big") + len(new) - old)
    data[at : at + old] = new
    return bytes(data)


def referring(kind: bytes, content: bytes) -> bytes:
    """The good video whose samples are said to lie in another file."""
    entry = full_box(kind, 0, 0, content)
    return forged(b"dref", struct.pack(">II", 0, 1) + entry, (b"dinf", b"minf", b"mdia", b"trak"))


@cache
def fragmented() -> bytes:
    """A good video of movie fragments."""
    return (DATA / "mp4-fragmented.mp4").read_bytes()


def flooded(count: int) -> bytes:
    """As many empty fragments behind the index."""
    end = fragmented().index(b"moof") - 4
    return fragmented()[:end] + box(b"moof", full_box(b"mfhd", 0, 0, bytes(4))) * count


def runs_of(samples: int) -> bytes:
    """A fragment whose run says that it has so many samples, and gives not one size."""
    end = fragmented().index(b"moof") - 4
    track = fragmented().index(b"tkhd") + 4 + 12
    head = full_box(b"tfhd", 0, 0x020010, fragmented()[track : track + 4], struct.pack(">I", 1))
    run = full_box(b"trun", 0, 0, struct.pack(">I", samples))
    fragment = box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), box(b"traf", head, run))
    return fragmented()[:end] + fragment + box(b"mdat", bytes(1000))


def index_of_itself() -> bytes:
    """A segment index whose only entry is that index."""
    entry = struct.pack(">III", 1 << 31 | 8, 1, 0)
    sidx = full_box(b"sidx", 0, 0, struct.pack(">IIIIHH", 1, 1, 0, MAX32, 0, 1), entry)
    return fragmented() + sidx


@cache
def changing_size() -> bytes:
    """Two videos of different sizes in one track."""
    source = "testsrc=duration=1:rate=10:size="
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source + "64x48", "-f", "lavfi"]
    command += ["-i", source + "640x480", "-pix_fmt", "yuv420p", "-bsf:v", "dump_extra", "-f", "h264"]
    parts = [
        subprocess.run([*command, "-map", str(which), "-"], check=True, capture_output=True, timeout=60).stdout
        for which in (0, 1)
    ]
    muxed = ["ffmpeg", "-nostdin", "-v", "error", "-f", "h264", "-i", "-", "-c", "copy"]
    muxed += ["-movflags", "empty_moov+frag_keyframe", "-f", "mp4", "-"]
    return subprocess.run(muxed, input=b"".join(parts), check=True, capture_output=True, timeout=60).stdout


def many(kind: bytes, values: bytes, count: int) -> bytes:
    """A table of so many equal entries."""
    return forged(kind, struct.pack(">II", 0, count) + values * count)


BOMBS = (
    Bomb("sizes-of-4-billion-samples.mp4", lambda: forged(b"stsz", struct.pack(">III", 0, 1, MAX32)), Reason.CORRUPT),
    Bomb("sizes-that-are-not-there.mp4", lambda: forged(b"stsz", struct.pack(">III", 0, 0, MAX32)), Reason.CORRUPT),
    Bomb(
        "5-million-sizes.mp4",
        lambda: forged(b"stsz", struct.pack(">III", 0, 0, 5_000_000) + bytes(20_000_000)),
        Reason.TOO_COMPLEX,
    ),
    Bomb("samples-of-4-gigabytes.mp4", lambda: forged(b"stsz", struct.pack(">III", 0, MAX32, 30)), Reason.CORRUPT),
    Bomb("a-million-chunks.mp4", lambda: many(b"stco", struct.pack(">I", 100), 1_000_000), Reason.CORRUPT),
    Bomb("4-billion-chunks.mp4", lambda: forged(b"stco", struct.pack(">II", 0, MAX32)), Reason.CORRUPT),
    Bomb("chunks-outside-the-file.mp4", lambda: forged(b"stco", struct.pack(">III", 0, 1, MAX32)), Reason.CORRUPT),
    Bomb("chunks-of-4-billion-samples.mp4", lambda: forged(b"stsc", struct.pack(">5I", 0, 1, 1, MAX32, 1)), READY),
    Bomb("chunks-of-no-samples.mp4", lambda: forged(b"stsc", struct.pack(">5I", 0, 1, 1, 0, 1)), Reason.CORRUPT),
    Bomb(
        "chunk-runs-out-of-order.mp4",
        lambda: forged(b"stsc", struct.pack(">8I", 0, 2, 9, 1, 1, 1, 1, 1)),
        Reason.CORRUPT,
    ),
    Bomb("4-billion-times.mp4", lambda: forged(b"stts", struct.pack(">4I", 0, 1, MAX32, MAX32)), READY),
    Bomb("a-million-times.mp4", lambda: many(b"stts", struct.pack(">II", 1, 1), 1_000_000), READY),
    Bomb("nested-boxes.mp4", lambda: nested(20_000), Reason.CORRUPT),
    Bomb("a-million-boxes.mp4", lambda: index_of(box(b"free") * 1_000_000), Reason.TOO_COMPLEX),
    Bomb("a-million-boxes-outside.mp4", lambda: plain() + box(b"free") * 1_000_000, Reason.TOO_COMPLEX),
    Bomb("1000-tracks.mp4", lambda: index_of(full_box(b"mvhd", 0, 0, bytes(96)), box(b"trak") * 1000), Reason.CORRUPT),
    Bomb("index-of-70-megabytes.mp4", lambda: forged(b"stss", bytes(70 * MIB)), Reason.TOO_LARGE),
    Bomb("box-of-one-byte.mp4", lambda: headed(b"\0\0\0\x07free"), Reason.CORRUPT),
    Bomb("box-to-the-end.mp4", lambda: headed(b"\0\0\0\0mdat"), Reason.CORRUPT),
    Bomb("box-that-overflows.mp4", lambda: headed(b"\0\0\0\x01free\xff\xff\xff\xff\xff\xff\xff\xff"), Reason.CORRUPT),
    Bomb("box-of-64-bits-that-is-none.mp4", lambda: headed(b"\0\0\0\x01free\0\0\0\0\0\0\0\0"), Reason.CORRUPT),
    Bomb(
        "4-billion-edits.mp4", lambda: forged(b"elst", struct.pack(">II", 0, MAX32), (b"edts", b"trak")), Reason.CORRUPT
    ),
    Bomb(
        "1000-edits-of-the-same.mp4",
        lambda: forged(
            b"elst", struct.pack(">II", 0, 1000) + struct.pack(">IiI", 10, 0, 1 << 16) * 1000, (b"edts", b"trak")
        ),
        Reason.TOO_COMPLEX,
    ),
    Bomb(
        "edits-of-years.mp4",
        lambda: forged(
            b"elst", struct.pack(">II", 0, 9) + struct.pack(">IiI", MAX32, 0, 1 << 16) * 9, (b"edts", b"trak")
        ),
        Reason.TOO_LONG,
    ),
    Bomb("movie-without-a-clock.mp4", lambda: overwritten(b"mvhd", 12, bytes(4)), Reason.CORRUPT),
    Bomb("track-without-a-clock.mp4", lambda: overwritten(b"mdhd", 12, bytes(4)), Reason.CORRUPT),
    Bomb(
        "once-a-second-for-ever.mp4",
        lambda: overwritten(b"mdhd", 12, b"\0\0\0\1").replace(b"edts", b"free"),
        Reason.TOO_LONG,
    ),
    Bomb("a-matrix-of-nonsense.mp4", lambda: overwritten(b"tkhd", 40, b"\x80\0\0\0" * 9), READY),
    Bomb("65535x65535.mp4", lambda: overwritten(b"avc1", 24, b"\xff\xff\xff\xff"), Reason.BAD_DIMENSIONS),
    Bomb(
        "16000x16000.mp4", lambda: overwritten(b"avc1", 24, struct.pack(">HH", 16_000, 16_000)), Reason.TOO_MANY_PIXELS
    ),
    Bomb("no-size.mp4", lambda: overwritten(b"avc1", 24, bytes(4)), Reason.BAD_DIMENSIONS),
    Bomb("ribbon.mp4", lambda: overwritten(b"avc1", 24, struct.pack(">HH", 16_000, 16)), Reason.BAD_ASPECT),
    Bomb("parameters-of-16368x16368.mp4", lambda: with_parameters(16_368, 16_368), Reason.CORRUPT),
    Bomb("parameters-of-another-size.mp4", lambda: with_parameters(4096, 4096), Reason.CORRUPT),
    Bomb("h264-as-hevc.mp4", lambda: of_codec(b"hvc1"), Reason.CORRUPT),
    Bomb("h264-as-av1.mp4", lambda: of_codec(b"av01"), Reason.CORRUPT),
    Bomb("h264-as-jpeg.mp4", lambda: of_codec(b"jpeg"), Reason.CORRUPT),
    Bomb("h264-as-raw.mov", lambda: of_codec(b"raw "), Reason.UNSUPPORTED_TYPE),
    Bomb("h264-as-an-exotic-codec.mov", lambda: of_codec(b"SVQ3"), Reason.UNSUPPORTED_TYPE),
    Bomb("h264-as-nothing.mp4", lambda: of_codec(b"zzzz"), Reason.UNSUPPORTED_TYPE),
    Bomb("encrypted.mp4", lambda: of_codec(b"encv"), Reason.ENCRYPTED),
    Bomb("samples-of-zeros.mp4", lambda: plain()[:48] + bytes(90_000) + plain()[90_048:], Reason.CORRUPT),
    Bomb("no-picture.mp4", lambda: handled_by(b"text"), Reason.NO_VIDEO),
    Bomb("changing-size.mp4", changing_size, READY),
    Bomb("url-reference.mp4", lambda: referring(b"url ", b"http://127.0.0.1:9/a.mp4\0"), Reason.EXTERNAL_REFERENCE),
    Bomb("urn-reference.mp4", lambda: referring(b"urn ", b"urn:a\0http://127.0.0.1:9/\0"), Reason.EXTERNAL_REFERENCE),
    Bomb("alias-reference.mov", lambda: referring(b"alis", bytes(150)), Reason.EXTERNAL_REFERENCE),
    Bomb(
        "reference-movie.mov",
        lambda: index_of(
            box(b"rmra", box(b"rmda", full_box(b"rdrf", 0, 0, b"url ", struct.pack(">I", 20), b"http://127.0.0.1:9/")))
        ),
        Reason.EXTERNAL_REFERENCE,
    ),
    Bomb(
        "compressed-index.mov",
        lambda: index_of(box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", bytes(100)))),
        Reason.UNSUPPORTED_TYPE,
    ),
    Bomb("250000-fragments.mp4", lambda: flooded(250_000), Reason.TOO_COMPLEX),
    Bomb("4-billion-samples-in-a-fragment.mp4", lambda: runs_of(MAX32), Reason.TOO_COMPLEX),
    Bomb("index-of-itself.mp4", index_of_itself, Reason.CORRUPT),
    Bomb("no-index.mp4", lambda: plain()[: plain().index(b"moov") - 4], Reason.CORRUPT),
)
