"""Damaged and forged files: refused, or planned within the file; never another error, never for long."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.movie import MoviePlan

from .videos import DATA, apply_patches, examine_bytes

_SLOW_S = 10.0  # far beyond what any of these takes; the sandbox's own limit is a minute
SEEDS: dict[str, Format] = {
    "mp4-h264-rotated-90-tiny.mp4": Format.MP4,
    "mp4-fragmented.mp4": Format.MP4,
    "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov": Format.MOV,
    "mp4-h264-moov-at-end.mp4": Format.MP4,
    "webm-vp8.webm": Format.WEBM,
    "mkv-h264-ac3.mkv": Format.MKV,
}
_CONTENTS = {name: (DATA / name).read_bytes() for name in SEEDS}
_INDICES = {  # where the structure is: mutations of samples change nothing
    "mp4-h264-rotated-90-tiny.mp4": (0, 1541),
    "mp4-fragmented.mp4": (0, 1836),
    "mov-iphone14pro-hevc-dolbyvision-rotated-gps.mov": (59349, 64565),
    "mp4-h264-moov-at-end.mp4": (99453, 101916),
    "webm-vp8.webm": (0, 5000),
    "mkv-h264-ac3.mkv": (0, 1500),
}
thorough = settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def _examine(data: bytes, fmt: Format) -> MoviePlan | None:
    """The plan, checked against the file, or None when it was refused."""
    begin = time.process_time()
    try:
        plan = examine_bytes(data, fmt)
    except ScrubError:
        return None
    finally:
        assert time.process_time() - begin < _SLOW_S
    assert all(patch.offset >= 0 and patch.end <= len(data) for patch in plan.patches)
    assert all(part.offset >= 0 and part.end <= len(data) for part in plan.poster_ranges)
    assert sum(part.length for part in plan.poster_ranges) < 10_000_000
    assert len(apply_patches(plan.patches, data)) == len(data)
    return plan


@thorough
@given(st.data())
def test_changed_bytes_are_refused_or_planned(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    start, end = _INDICES[name]
    changed = bytearray(_CONTENTS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(start, end - 4))
        value = data.draw(st.sampled_from([b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\0" * 4, b"\0\0\0\x01"]))
        changed[position : position + len(value)] = value
    _examine(bytes(changed), SEEDS[name])


@thorough
@given(st.data())
def test_cut_files_are_refused_or_planned(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    content = _CONTENTS[name]
    _examine(content[: data.draw(st.integers(0, len(content)))], SEEDS[name])


@thorough
@given(st.data())
def test_moved_parts_are_refused_or_planned(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SEEDS)))
    content = _CONTENTS[name]
    start, end = _INDICES[name]
    first, second = sorted(data.draw(st.tuples(st.integers(start, end), st.integers(start, end))))
    changed = content[:first] + content[second:] if data.draw(st.booleans()) else content[:second] + content[first:]
    _examine(changed, SEEDS[name])


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from([Format.MP4, Format.MOV, Format.WEBM, Format.MKV]))
def test_noise_is_refused(data: bytes, fmt: Format) -> None:
    assert _examine(data, fmt) is None


# --- forged to cost time or memory ------------------------------------------------------------------------------


def _reason(data: bytes, fmt: Format) -> ScrubCode:
    begin = time.process_time()
    with pytest.raises(ScrubError) as caught:
        examine_bytes(data, fmt)
    assert time.process_time() - begin < _SLOW_S
    return caught.value.code


def _forged(kind: bytes, content: bytes) -> bytes:
    """The tiny movie with one of its tables replaced, and its parents grown."""
    data = bytearray(_CONTENTS["mp4-h264-rotated-90-tiny.mp4"])
    at = data.index(kind) - 4
    old = int.from_bytes(data[at : at + 4], "big")
    new = struct.pack(">I4s", 8 + len(content), kind) + content
    for parent in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = data.rindex(parent, 0, at) - 4
        struct.pack_into(">I", data, start, int.from_bytes(data[start : start + 4], "big") + len(new) - old)
    data[at : at + old] = new
    return bytes(data)


def test_millions_of_tiny_boxes() -> None:
    box = struct.pack(">I4s", 8, b"free")
    moov = struct.pack(">I4s", 8 + 8 * 1_000_000, b"moov") + box * 1_000_000
    assert _reason(moov, Format.MP4) is ScrubCode.TOO_COMPLEX
    assert _reason(box * 1_000_000, Format.MP4) is ScrubCode.TOO_COMPLEX


def test_boxes_nested_without_end() -> None:
    data = b""
    for _ in range(5000):
        data = struct.pack(">I4s", 8 + len(data), b"trak") + data
    data = struct.pack(">I4s", 8 + len(data), b"moov") + data
    assert _reason(data, Format.MP4) is ScrubCode.CORRUPT


def test_sample_counts_beyond_reason() -> None:
    huge = 0xFFFFFFFF
    constant = _forged(b"stsz", struct.pack(">III", 0, 1, huge))
    _examine(constant, Format.MP4)
    long_run = _forged(b"stts", struct.pack(">IIII", 0, 1, huge, 0))
    _examine(long_run, Format.MP4)
    many = _forged(b"stsz", struct.pack(">III", 0, 0, 5_000_000) + bytes(20_000_000))
    assert _reason(many, Format.MP4) is ScrubCode.TOO_COMPLEX
    wide = _forged(b"stsc", struct.pack(">IIIII", 0, 1, 1, huge, 1))
    _examine(wide, Format.MP4)


def test_millions_of_chunks() -> None:
    chunks = _forged(b"stco", struct.pack(">II", 0, 1_000_000) + struct.pack(">I", 100) * 1_000_000)
    _examine(chunks, Format.MP4)


def test_matroska_of_millions_of_elements() -> None:
    head = _CONTENTS["webm-vp8.webm"][: _CONTENTS["webm-vp8.webm"].index(b"\x18\x53\x80\x67")]
    segment = b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
    assert _reason(head + segment + b"\xec\x80" * 1_000_000, Format.WEBM) is ScrubCode.TOO_COMPLEX


@pytest.mark.parametrize("width", [0xFFFF, 0])
def test_absurd_dimensions(width: int) -> None:
    data = bytearray(_CONTENTS["mp4-h264-rotated-90-tiny.mp4"])
    at = data.index(b"avc1", 100) - 4
    struct.pack_into(">H", data, at + 32, width)
    assert _reason(bytes(data), Format.MP4) is ScrubCode.BAD_DIMENSIONS


def test_an_absurd_aspect() -> None:
    data = bytearray(_CONTENTS["mp4-h264-rotated-90-tiny.mp4"])
    at = data.index(b"avc1", 100) - 4
    struct.pack_into(">HH", data, at + 32, 16_000, 60)
    assert _reason(bytes(data), Format.MP4) is ScrubCode.BAD_ASPECT
