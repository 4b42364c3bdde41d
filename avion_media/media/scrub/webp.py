"""WebP: image, alpha, animation and ICC chunks stay; Exif shrinks to the orientation; all other chunks go, and what
follows the RIFF container.
"""

from __future__ import annotations

from collections.abc import Iterator

from avion_media.media.exif import ExifFacts, minimal_exif, read_exif
from avion_media.media.scrub.icc import neutral_profile
from avion_media.media.scrub.structure import corrupt

_CHUNK_HEADER_BYTES = 8
_IMAGES = frozenset((b"VP8 ", b"VP8L"))
_FRAME_CHUNKS = _IMAGES | {b"ALPH"}
_FRAME_HEADER_BYTES = 16
_FEATURES_BYTES, _ANIMATION_BYTES = 10, 6
# Feature flags of VP8X.
_HAS_ICC, _HAS_ALPHA, _HAS_EXIF, _HAS_ANIMATION = 0x20, 0x10, 0x08, 0x02


def scrub_webp(view: memoryview) -> bytes:
    """See `scrub_image`. A file shorter than its container says is CORRUPT: decoders show nothing of it."""
    body = webp_body(view)
    chunks = _extended(body) if bytes(body[:4]) == b"VP8X" else _simple(body)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks


def webp_body(view: memoryview) -> memoryview:
    """The content of the RIFF container; CORRUPT when there is none or it is cut off."""
    if bytes(view[:4]) != b"RIFF" or bytes(view[8:12]) != b"WEBP":
        raise corrupt("no RIFF header of a WebP")
    end = 8 + int.from_bytes(view[4:8], "little")
    if not 12 <= end <= len(view):
        raise corrupt("the RIFF container is cut off")
    return view[12:end]


def webp_chunks(body: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The chunks inside a container or frame; CORRUPT when one is cut off."""
    offset = 0
    while offset + _CHUNK_HEADER_BYTES <= len(body):
        kind = bytes(body[offset : offset + 4])
        length = int.from_bytes(body[offset + 4 : offset + 8], "little")
        offset += _CHUNK_HEADER_BYTES
        if offset + length > len(body):
            raise corrupt("a chunk reaches beyond its container")
        yield kind, body[offset : offset + length]
        offset += length + length % 2


def _simple(body: memoryview) -> bytes:
    """Without VP8X a file is its first chunk; decoders do not look further."""
    kind, payload = next(webp_chunks(body), (b"", body))
    if kind not in _IMAGES:
        raise corrupt("no image chunk")
    return _chunk(kind, payload)


def _extended(body: memoryview) -> bytes:
    features = bytearray()
    profile: bytes | None = None
    facts: ExifFacts | None = None
    picture = bytearray()
    for kind, payload in webp_chunks(body):
        if kind == b"VP8X" and not features:
            features += payload[:_FEATURES_BYTES]
        elif kind == b"ICCP" and profile is None:
            profile = neutral_profile(payload)
        elif kind == b"EXIF" and facts is None:
            facts = ExifFacts(read_exif(payload).orientation)
        else:
            picture += _kept(kind, payload)
    if len(features) < _FEATURES_BYTES or not picture:
        raise corrupt("VP8X is too short, or alone")
    exif = minimal_exif(facts or ExifFacts())
    features[0] &= _HAS_ALPHA | _HAS_ANIMATION
    features[0] |= (_HAS_ICC if profile else 0) | (_HAS_EXIF if exif else 0)
    features[1:4] = bytes(3)  # reserved
    profile_chunk = _chunk(b"ICCP", profile) if profile else b""
    return _chunk(b"VP8X", features) + profile_chunk + picture + (_chunk(b"EXIF", exif) if exif else b"")


def _kept(kind: bytes, payload: memoryview) -> bytes:
    if kind in _FRAME_CHUNKS:
        return _chunk(kind, payload)
    if kind == b"ANIM" and len(payload) >= _ANIMATION_BYTES:
        return _chunk(kind, payload[:_ANIMATION_BYTES])
    if kind != b"ANMF" or len(payload) < _FRAME_HEADER_BYTES:
        return b""
    frame = bytearray(payload[:_FRAME_HEADER_BYTES])
    for inner_kind, inner in webp_chunks(payload[_FRAME_HEADER_BYTES:]):
        if inner_kind in _FRAME_CHUNKS:
            frame += _chunk(inner_kind, inner)
    return _chunk(kind, frame)


def _chunk(kind: bytes, payload: bytes | bytearray | memoryview) -> bytes:
    return kind + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)
