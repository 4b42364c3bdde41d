"""Matroska files from their elements."""

from __future__ import annotations

import struct
from functools import cache

from mediascrub.matroska.ebml import Element, parse_element

from .samples import DATA

EBML, SEGMENT, INFO, TRACKS, CLUSTER, CUES = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B
SEEK_HEAD, TAGS, ATTACHMENTS = 0x114D9B74, 0x1254C367, 0x1941A469
TRACK_ENTRY, VIDEO, CODEC_ID, CONTENT_ENCODINGS = 0xAE, 0xE0, 0x86, 0x6D80
TIMESTAMP, SIMPLE_BLOCK = 0xE7, 0xA3
UNKNOWN = b"\x01\xff\xff\xff\xff\xff\xff\xff"


def element(identifier: int, *contents: bytes, size: bytes | None = None) -> bytes:
    """One element; its size in eight bytes, or as forged."""
    content = b"".join(contents)
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (size or (len(content) | 1 << 56).to_bytes(8, "big")) + content


def number(identifier: int, value: int, width: int = 4) -> bytes:
    """An unsigned integer."""
    return element(identifier, value.to_bytes(width, "big"))


@cache
def plain() -> bytes:
    """A good WebM (VP8, 640 x 360)."""
    return (DATA / "webm-vp8.webm").read_bytes()


def children(data: bytes, parent: Element) -> list[Element]:
    """The children of an element."""
    found, offset = [], parent.payload
    while offset < min(parent.end, len(data)):
        found.append(parse_element(data, offset, offset))
        offset = found[-1].end
    return found


@cache
def parts() -> dict[int, bytes]:
    """The first element of each kind in the good file's segment, whole; and the EBML header."""
    head = parse_element(plain(), 0, 0)
    segment = parse_element(plain(), head.end, head.end)
    found = {EBML: plain()[: head.end]}
    for each in children(plain(), segment):
        found.setdefault(each.id, plain()[each.offset : each.end])
    return found


@cache
def first_frame() -> bytes:
    """The first picture, as coded."""
    cluster = parts()[CLUSTER]
    for each in children(cluster, parse_element(cluster, 0, 0)):
        frame = cluster[each.payload + 4 : each.end]
        if each.id == SIMPLE_BLOCK and frame[3:6] == b"\x9d\x01\x2a":
            return frame
    raise AssertionError("no block in the good file")


def file_of(*contents: bytes, size: bytes | None = None) -> bytes:
    """A file whose segment holds these elements."""
    return parts()[EBML] + element(SEGMENT, *contents, size=size)


def info(scale: int = 1_000_000, seconds: float | None = 1.0) -> bytes:
    """Info."""
    duration = element(0x4489, struct.pack(">d", seconds * 1e9 / scale)) if seconds is not None and scale else b""
    return element(INFO, number(0x2AD7B1, scale, 8), duration)


def track(width: int = 640, height: int = 360, codec: bytes = b"V_VP8", *more: bytes, count: int = 1) -> bytes:
    """Tracks of one video, ``count`` times."""
    video = element(VIDEO, number(0xB0, width), number(0xBA, height))
    head = number(0x73C5, 1) + number(0x83, 1, 1) + element(CODEC_ID, codec) + video + b"".join(more)
    return element(TRACKS, *(element(TRACK_ENTRY, number(0xD7, each + 1), head) for each in range(count)))


def cluster(*blocks: bytes, size: bytes | None = None) -> bytes:
    """A cluster of these blocks."""
    return element(CLUSTER, number(TIMESTAMP, 0), *blocks, size=size)


def block(frame: bytes, flags: int = 0x80) -> bytes:
    """A key frame of the first track."""
    return element(SIMPLE_BLOCK, b"\x81\0\0", bytes((flags,)), frame)


def good_cluster() -> bytes:
    """A cluster of the first picture."""
    return cluster(block(first_frame()))
