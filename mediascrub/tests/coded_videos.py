"""Videos whose coded pictures carry private messages, made with ffmpeg from what its encoders wrote."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image

from .videos import ffmpeg

SECRET = b"POSITION 51.4779N 0.0015W"
_UUID = bytes(range(16))
CAPTION = b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94\x20\xff"
HDR10_PLUS = b"\xb5\x00\x3c\x00\x01\x04\x01" + bytes.fromhex("5555555222e1117088b8445c01ff00")  # one window
_OTHER_REGISTERED = b"\xb5\x12\x34" + SECRET
SECONDS = 2
_SOURCE = ("-f", "lavfi", "-i", f"testsrc2=s=160x120:r=10:d={SECONDS}")
_START_CODE = re.compile(rb"\0\0(?:\0)?\x01")
Units = list[bytes]


def _once(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Let a video be made once for all tests that want it in the same container."""
    made: dict[str, bytes] = {}

    def write(path: Path) -> None:
        if path.suffix not in made:
            make(path)
            made[path.suffix] = path.read_bytes()
        path.write_bytes(made[path.suffix])

    return write


@_once
def h264(path: Path) -> None:
    """x264 with its own note, and in each picture a position, a position that is registered, a caption, HDR10+."""
    stream = _stream("h264", "-c:v", "libx264", "-g", "5", "-bf", "0")
    units = _units(stream)
    assert any(b"x264 - core" in unit for unit in units)
    _muxed(path, "h264", _with_messages(units, lambda unit: unit[0] & 0x1F in (1, 5), b"\x06"))


@_once
def hevc(path: Path) -> None:
    """x265 with its own note, and in each picture the same messages, and HDR10+."""
    stream = _stream("hevc", "-c:v", "libx265", "-x265-params", "log-level=none:bframes=0:keyint=5")
    units = _units(stream)
    assert any(b"x265 (build" in unit for unit in units)
    _muxed(path, "hevc", _with_messages(units, lambda unit: unit[0] >> 1 & 0x3F < 32, b"\x4e\x01"))


@_once
def av1(path: Path) -> None:
    """SVT-AV1, and in each picture a position, a caption, HDR10+, a time code and a unit of padding with a text."""
    stream = _stream("ivf", "-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "keyint=5")
    private = b"".join(
        _obu(5, bytes((kind,)) + content + b"\x80")
        for kind, content in ((4, _OTHER_REGISTERED), (4, CAPTION), (4, HDR10_PLUS), (5, SECRET), (31, SECRET))
    )
    private += _obu(15, SECRET + b"\x80")
    made, position = [stream[:32]], 32
    while position < len(stream):
        size = int.from_bytes(stream[position : position + 4], "little")
        time, unit = stream[position + 4 : position + 12], stream[position + 12 : position + 12 + size]
        assert unit.startswith(b"\x12\0")  # a temporal delimiter
        start = 2 if unit[2] >> 3 != 1 else 4 + unit[3]  # behind the sequence's header, if there is one
        unit = unit[:start] + private + unit[start:]
        made += [len(unit).to_bytes(4, "little"), time, unit]
        position += 12 + size
    _muxed(path, "ivf", b"".join(made))


@_once
def motion_jpeg(path: Path) -> None:
    """Frames of a camera: each has Exif with a position, XMP and a comment."""
    for number in range(5):
        frame = Image.linear_gradient("L").resize((160, 120)).rotate(number).convert("RGB")
        exif = Image.Exif()
        exif[0x010E] = SECRET.decode()
        xmp = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
        frame.save(path.with_name(f"{number}.jpg"), exif=exif, xmp=xmp, comment=SECRET)
    ffmpeg("-framerate", "5", "-i", path.with_name("%d.jpg"), "-c", "copy", path)


MAKERS: dict[str, Callable[[Path], None]] = {"h264": h264, "hevc": hevc, "av1": av1, "motion jpeg": motion_jpeg}


@cache
def _stream(suffix: str, *encoder: str) -> bytes:
    return ffmpeg(*_SOURCE, *encoder, "-pix_fmt", "yuv420p", "-f", suffix, "pipe:1")


def _muxed(path: Path, suffix: str, stream: bytes) -> None:
    made = path.with_suffix(f".made.{suffix}")
    made.write_bytes(stream)
    rate = () if suffix == "ivf" else ("-framerate", "10")  # which tells its own
    ffmpeg(*rate, "-i", made, "-c", "copy", path)


def _units(stream: bytes) -> Units:
    return [unit for unit in _START_CODE.split(stream) if unit]


def _with_messages(units: Units, is_picture: Callable[[bytes], bool], header: bytes) -> bytes:
    pictures = 0
    result: Units = []
    for unit in units:
        if is_picture(unit):
            result += [
                header + _message(5, _UUID + SECRET) + b"\x80",
                # Needed ones and private ones in one unit, one of them with escapes.
                header + _message(4, CAPTION) + _message(5, _UUID + b"\0\0\x03\0" + SECRET, 1)
                + _message(4, HDR10_PLUS) + _message(4, _OTHER_REGISTERED) + _message(300, SECRET) + b"\x80",
            ]  # fmt: skip
            pictures += 1
        result.append(unit)
    assert pictures == 20
    return b"".join(b"\0\0\0\x01" + unit for unit in result)


def _message(kind: int, content: bytes, escapes: int = 0) -> bytes:
    prefix = b"\xff" * (kind // 255) + bytes((kind % 255,))
    return prefix + bytes((len(content) - escapes,)) + content


def _obu(kind: int, content: bytes) -> bytes:
    return bytes((kind << 3 | 2, len(content))) + content
