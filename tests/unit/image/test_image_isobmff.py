"""Code points and playing time, from boxes that are as they should be and from boxes that are not."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avion_media.domain.errors import Rejected
from avion_media.media.image.colour import CodePoints
from avion_media.media.image.isobmff import still_code_points, track_duration_s


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def movie(media_header: bytes) -> bytes:
    return box(b"ftyp", b"avis") + box(b"moov", box(b"mvhd"), box(b"trak", box(b"mdia", box(b"mdhd", media_header))))


def header_v0(timescale: int, duration: int) -> bytes:
    return struct.pack(">IIIII", 0, 0, 0, timescale, duration)


def header_v1(timescale: int, duration: int) -> bytes:
    return struct.pack(">IQQIQ", 1 << 24, 0, 0, timescale, duration)


@pytest.mark.parametrize(
    ("media_header", "duration_s"),
    [
        (header_v0(1000, 2500), 2.5),
        (header_v1(30, 90), 3.0),
        (header_v0(0, 2500), 0.0),
        (header_v0(1000, 0xFFFFFFFF), 0.0),
        (header_v1(1000, 0xFFFFFFFFFFFFFFFF), 0.0),
        (header_v0(1000, 2500)[:-1], 0.0),
        (b"", 0.0),
    ],
)
def test_the_duration_of_a_track(media_header: bytes, duration_s: float) -> None:
    assert track_duration_s(movie(media_header)) == duration_s


def test_no_track_has_no_duration() -> None:
    assert track_duration_s(b"") == 0.0
    assert track_duration_s(box(b"moov", box(b"mvhd"))) == 0.0


def still(*, item: int = 1, wide: bool = False, large_ids: bool = False, indices: tuple[int, ...] = (2,)) -> bytes:
    """A primary item with the properties of ``indices``: 1 is a size, 2 is Display P3, 3 is BT.2020 with PQ."""
    properties = box(
        b"ipco",
        box(b"ispe", bytes(12)),
        box(b"colr", b"nclx", struct.pack(">HHHB", 12, 13, 6, 128)),
        box(b"colr", b"nclx", struct.pack(">HHHB", 9, 16, 9, 128)),
    )
    id_format = ">I" if large_ids else ">H"
    entries = b"".join(
        struct.pack(id_format, owner)
        + bytes((len(owned),))
        + b"".join(struct.pack(">H", 0x8000 | index) if wide else bytes((0x80 | index,)) for index in owned)
        for owner, owned in ((7, (3,)), (1, indices))
    )
    flags = bytes((1 if large_ids else 0, 0, 0, 1 if wide else 0))
    association = box(b"ipma", flags, struct.pack(">I", 2), entries)
    version = b"\1\0\0\0" if large_ids else bytes(4)
    primary = box(b"pitm", version, struct.pack(id_format, item))
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4), primary, box(b"iprp", properties, association))


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("large_ids", [False, True])
def test_the_code_points_of_the_primary_item(wide: bool, large_ids: bool) -> None:
    assert still_code_points(still(wide=wide, large_ids=large_ids)) == CodePoints(12, 13)
    assert still_code_points(still(wide=wide, large_ids=large_ids, item=7)) == CodePoints(9, 16)


def test_an_item_without_code_points_has_none() -> None:
    assert still_code_points(still(indices=(1,))) is None
    assert still_code_points(still(item=99)) is None
    assert still_code_points(b"") is None


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.data())
def test_broken_boxes_are_as_good_as_absent(data: st.DataObject) -> None:
    broken = bytearray(data.draw(st.sampled_from((still(), still(wide=True), movie(header_v1(30, 90))))))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(broken)))])
    for each in (bytes(broken), cut):
        with suppress(Rejected):
            still_code_points(each)
            track_duration_s(each)
