"""Removes free text from headers of FLAC, of Vorbis and of spherical projections, without a change of their length."""

from __future__ import annotations

import re

from mediascrub.coded_data.changes import number_of_255s
from mediascrub.errors import corrupt

_FLAC_STREAMINFO, _FLAC_PADDING, _FLAC_LAST = 0, 1, 0x80
_VORBIS_COMMENT = b"\x03vorbis"
# Spherical Video V1 (github.com/google/spatial-media): RDF in a ``uuid`` box of a track.
_SPHERICAL_UUID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_SPHERICAL_HEAD = (
    b'<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    b'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
)
_SPHERICAL_TAIL = b"</rdf:SphericalVideo>"
_ELEMENT = re.compile(rb"<GSpherical:([A-Za-z]+)>([^<>]+)</GSpherical:\1>")
_TRUE, _NUMBER = re.compile(rb"true|false"), re.compile(rb"-?[0-9]{1,6}")
_PROJECTION: dict[bytes, re.Pattern[bytes]] = {  # the elements that say how to show it, and their values
    b"Spherical": _TRUE,
    b"Stitched": _TRUE,
    b"ProjectionType": re.compile(rb"equirectangular"),
    b"StereoMode": re.compile(rb"mono|left-right|top-bottom"),
    **dict.fromkeys((b"InitialViewHeadingDegrees", b"InitialViewPitchDegrees", b"InitialViewRollDegrees"), _NUMBER),
    **dict.fromkeys((b"FullPanoWidthPixels", b"FullPanoHeightPixels"), _NUMBER),
    **dict.fromkeys((b"CroppedAreaImageWidthPixels", b"CroppedAreaImageHeightPixels"), _NUMBER),
    **dict.fromkeys((b"CroppedAreaLeftPixels", b"CroppedAreaTopPixels"), _NUMBER),
}
_SPHERICAL_TOOL = b"<GSpherical:StitchingSoftware></GSpherical:StitchingSoftware>"  # mandatory, so it stays, empty


def neutral_flac_blocks(blocks: bytes) -> bytes:
    """Return FLAC metadata blocks (RFC 9639, section 8), all but STREAMINFO as zeroed PADDING. CORRUPT if cut off."""
    neutral = bytearray(blocks)
    position = 0
    while position < len(blocks):
        last, kind = blocks[position] & _FLAC_LAST, blocks[position] & 0x7F
        length = int.from_bytes(blocks[position + 1 : position + 4], "big")
        end = position + 4 + length
        if end > len(blocks):
            raise corrupt("FLAC metadata is cut off")
        if kind != _FLAC_STREAMINFO:
            neutral[position] = last | _FLAC_PADDING
            neutral[position + 4 : end] = bytes(length)
        position = end
    return bytes(neutral)


def neutral_vorbis_headers(private: bytes) -> bytes:
    """Return Matroska's ``CodecPrivate`` of Vorbis, with zeros for vendor and comments. CORRUPT for other content."""
    if private[:1] != b"\x02":
        raise corrupt("Vorbis headers")
    places = range(len(private))
    identification_bytes, position = number_of_255s(private, places, 1)
    comment_bytes, position = number_of_255s(private, places, position)
    start = position + identification_bytes
    end = start + comment_bytes
    # Packet type and "vorbis", vendor length, vendor, number of comments (0), framing bit.
    filler = comment_bytes - len(_VORBIS_COMMENT) - 4 - 4 - 1
    if end > len(private) or filler < 0 or not private.startswith(_VORBIS_COMMENT, start):
        raise corrupt("Vorbis headers")
    comment = _VORBIS_COMMENT + filler.to_bytes(4, "little") + bytes(filler) + bytes(4) + b"\x01"
    return private[:start] + comment + private[end:]


def neutral_spherical(content: bytes) -> bytes:
    """Return the content of a ``uuid`` box reduced to its projection; empty if it has none, or no room for it."""
    if not content.startswith(_SPHERICAL_UUID):
        return b""
    elements = _ELEMENT.finditer(content)
    kept = b"".join(each[0] for each in elements if each[1] in _PROJECTION and _PROJECTION[each[1]].fullmatch(each[2]))
    text = _SPHERICAL_HEAD + _SPHERICAL_TOOL + kept + _SPHERICAL_TAIL
    room = len(content) - len(_SPHERICAL_UUID)
    return _SPHERICAL_UUID + text.ljust(room) if kept and len(text) <= room else b""
