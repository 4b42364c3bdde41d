"""WebP: image, alpha, animation and ICC chunks stay, and Exif is reduced to the orientation.

All other chunks, and everything after the RIFF container, are removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from mediascrub.credentials import find_credentials
from mediascrub.errors import ScrubError, corrupt
from mediascrub.exif import ExifFacts, minimal_exif, read_exif
from mediascrub.formats import Format
from mediascrub.icc import neutral_profile
from mediascrub.picture import MAX_PEEKED_PARTS, IccProfile, Peek, Picture, bounded_parts, playing_time
from mediascrub.ranges import Range

_CONTAINER_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8
_C2PA = b"C2PA"
_IMAGES = frozenset((b"VP8 ", b"VP8L"))
_FRAME_CHUNKS = _IMAGES | {b"ALPH"}
_FRAME_HEADER_BYTES = 16
_FEATURES_BYTES, _ANIMATION_BYTES = 10, 6
# Feature flags of VP8X.
_HAS_ICC, _HAS_ALPHA, _HAS_EXIF, _HAS_ANIMATION = 0x20, 0x10, 0x08, 0x02


def peek(head: bytes) -> Peek | None:
    """See `PictureFormat`. The first chunk of each of the three kinds of WebP has the size."""
    kind, header = head[12:16], head[20:30]
    if kind == b"VP8X" and len(header) == 10:
        animated = bool(header[0] & _HAS_ANIMATION)  # the canvas is decoded in full, whatever the size of its frames
        return Peek(1 + _number(header[4:7]), 1 + _number(header[7:10]), whole=animated)
    if kind == b"VP8 " and len(header) == 10 and header[3:6] == b"\x9d\x01\x2a":
        return Peek(_number(header[6:8]) & 0x3FFF, _number(header[8:10]) & 0x3FFF)
    if kind == b"VP8L" and header[:1] == b"\x2f" and len(header) >= 5:
        bits = _number(header[1:5])
        return Peek(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    return None


def read(view: memoryview) -> Picture:
    """See `PictureFormat`. A file shorter than its container says is CORRUPT, because decoders show nothing of it."""
    if bytes(view[:4]) != b"RIFF" or bytes(view[8:12]) != b"WEBP":
        raise corrupt("no RIFF header of a WebP")
    end = 8 + _number(view[4:8])
    if not 12 <= end <= len(view):
        raise corrupt("the RIFF container is cut off")
    facts = peek(bytes(view[:30]))
    if facts is None:
        raise corrupt("no bitstream header")
    delays_s: list[float] = []
    manifests: list[Range] = []
    xmp: list[memoryview] = []
    profile, orientation, kept = b"", 1, b""
    if bytes(view[12:16]) == b"VP8X":
        profile, orientation, picture, kept = _extended(view[12:end], delays_s, manifests, xmp)
    else:  # the file is its first chunk; decoders read no further
        series = chunks(view[12:end])
        kind, _, payload = next(series, (b"", 0, view[:0]))
        if kind not in _IMAGES:
            raise corrupt("no image chunk")
        picture = kept = _chunk(kind, payload)
        with suppress(ScrubError, StopIteration):
            parts = islice(series, MAX_PEEKED_PARTS)
            manifests.append(next(Range(at, len(each)) for other, at, each in parts if other == _C2PA))
    original = b"".join((b"RIFF", (4 + len(kept)).to_bytes(4, "little"), b"WEBP", kept))
    manifest = [Range(_CONTAINER_HEADER_BYTES + at, length) for at, length in manifests[:1]]
    carrier = [Range(at - _CHUNK_HEADER_BYTES, _CHUNK_HEADER_BYTES + length + length % 2) for at, length in manifest]
    return Picture(
        format=Format.WEBP,
        width=facts.width,
        height=facts.height,
        orientation=orientation,
        frames=max(1, len(delays_s)),
        duration_s=playing_time(delays_s),
        colour=IccProfile(profile) if profile else None,
        original=original,
        still=original,
        whole=facts.whole,
        ycbcr=picture.startswith(b"VP8 "),  # an animation begins with ANMF, opacity with ALPH
        xmp=xmp[0] if xmp else b"",
        # The length in the header counts the manifest as well.
        credentials=find_credentials(view, manifest, carrier, lambda rest: rest[8:] == original[8:]),
    )


def _number(data: bytes | memoryview) -> int:
    return int.from_bytes(data, "little")


def chunks(body: memoryview) -> Iterator[tuple[bytes, int, memoryview]]:
    """Yield type, offset and payload of the chunks in a container or frame; CORRUPT if one is cut off."""
    offset = 0
    while offset + _CHUNK_HEADER_BYTES <= len(body):
        kind = bytes(body[offset : offset + 4])
        length = _number(body[offset + 4 : offset + 8])
        offset += _CHUNK_HEADER_BYTES
        if offset + length > len(body):
            raise corrupt("a chunk reaches beyond its container")
        yield kind, offset, body[offset : offset + length]
        offset += length + length % 2


def _extended(
    body: memoryview, delays_s: list[float], manifests: list[Range], xmp: list[memoryview]
) -> tuple[bytes, int, bytes, bytes]:
    """Return the profile, the orientation, the chunks of the picture itself, and all chunks that stay.

    Append the delays of frames, where manifests are, and packets of XMP.
    """
    features = bytearray()
    profile: bytes | None = None
    orientation: int | None = None
    picture, has_image = bytearray(), False
    for _, (kind, offset, payload) in zip(bounded_parts(), chunks(body), strict=False):
        if kind == b"VP8X" and not features:
            features += payload[:_FEATURES_BYTES]
        elif kind == b"ICCP" and profile is None:
            profile = neutral_profile(payload)
        elif kind == b"EXIF" and orientation is None:
            orientation = read_exif(payload).orientation
        elif kind == b"ANMF" and len(payload) >= _FRAME_HEADER_BYTES and features[:1] and features[0] & _HAS_ANIMATION:
            delays_s.append(_number(payload[12:15]) / 1000)
            picture += _chunk(kind, _frame(payload))
        elif kind in _FRAME_CHUNKS and not has_image:
            picture += _chunk(kind, payload)
            has_image = kind in _IMAGES
        elif kind == b"ANIM" and len(payload) >= _ANIMATION_BYTES:
            picture += _chunk(kind, payload[:_ANIMATION_BYTES])
        elif kind == b"XMP " and not xmp:
            xmp.append(payload)
        elif kind == _C2PA and not manifests:
            manifests.append(Range(offset, len(payload)))
    if len(features) < _FEATURES_BYTES or not picture:
        raise corrupt("VP8X is too short, or alone")
    exif = minimal_exif(ExifFacts(orientation or 1))
    features[0] &= _HAS_ALPHA | _HAS_ANIMATION
    features[0] |= (_HAS_ICC if profile else 0) | (_HAS_EXIF if exif else 0)
    features[1:4] = bytes(3)  # reserved
    profile_chunk = _chunk(b"ICCP", profile) if profile else b""
    kept = (_chunk(b"VP8X", features), profile_chunk, picture, _chunk(b"EXIF", exif) if exif else b"")
    return profile or b"", orientation or 1, bytes(picture), b"".join(kept)


def _frame(payload: memoryview) -> bytearray:
    frame = bytearray(payload[:_FRAME_HEADER_BYTES])
    for kind, _, inner in chunks(payload[_FRAME_HEADER_BYTES:]):
        if kind in _FRAME_CHUNKS:
            frame += _chunk(kind, inner)
    return frame


def _chunk(kind: bytes, payload: bytes | bytearray | memoryview) -> bytes:
    return b"".join((kind, len(payload).to_bytes(4, "little"), payload, bytes(len(payload) % 2)))
