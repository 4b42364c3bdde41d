"""Removes free text from the headers of sound and of spherical projections, without a change of their length."""

from __future__ import annotations

import re

from mediascrub.coded_data.changes import number_of_255s
from mediascrub.errors import ScrubCode, ScrubError, corrupt

_FLAC_STREAMINFO, _FLAC_PADDING, _FLAC_LAST, _FLAC_STREAMINFO_BYTES = 0, 1, 0x80, 34
_VORBIS_COMMENT, _VORBIS_IDENTIFICATION_BYTES = b"\x03vorbis", 30
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

# Descriptors of an elementary stream (ISO/IEC 14496-1, 7.2.6). Their lengths take up to four bytes.
_DESCRIPTOR = re.compile(rb"(.)((?:[\x80-\xff]{0,3})[\x00-\x7f])", re.DOTALL)
_STREAM, _DECODER, _SPECIFIC, _SYNC = 3, 4, 5, 6
_STREAM_BYTES, _DECODER_BYTES, _SYNC_BYTES = 3, 13, 16
_DEPENDS, _ELSEWHERE, _OTHER_CLOCK = 0x80, 0x40, 0x20  # flags of a stream
# Types of objects (mp4ra.org), and how much they need: MPEG-4 pictures, FLAC, Opus. Others need nothing.
_MPEG4_PICTURES, _AAC, _VORBIS = 0x20, (0x40, 0x66, 0x67, 0x68), 0xDD
_SPECIFIC_BYTES = {_MPEG4_PICTURES: 1 << 28, 0xC1: 34, 0xAD: 19}
_AAC_KINDS, _AAC_BYTES = (1, 2, 3, 4, 5, 29), 14  # with another rate in full, and the extension behind
# Notes of encoders. libav reads some and then decodes as that encoder meant it.
_USER_DATA = re.compile(rb"(?<=\0\0\x01\xb2)(?!DivX|XviD|FFmpe|ffmpe|Lavc)(?:(?!\0\0\x01).)+", re.DOTALL)


def neutral_flac_blocks(blocks: bytes) -> bytes:
    """Return FLAC metadata blocks (RFC 9639, section 8), all but a first STREAMINFO as zeroed PADDING.

    Raises `ScrubError` (corrupt) if they are cut off.
    """
    neutral = bytearray(blocks)
    position = 0
    while position < len(blocks):
        last, kind = blocks[position] & _FLAC_LAST, blocks[position] & 0x7F
        length = int.from_bytes(blocks[position + 1 : position + 4], "big")
        end = position + 4 + length
        if end > len(blocks):
            raise corrupt("FLAC metadata is cut off")
        start = position + 4 + _FLAC_STREAMINFO_BYTES
        if kind != _FLAC_STREAMINFO or position:
            neutral[position] = last | _FLAC_PADDING
            start = position + 4
        neutral[start:end] = bytes(max(0, end - start))
        position = end
    return bytes(neutral)


def neutral_vorbis_headers(private: bytes) -> bytes:
    """Return the three headers of Vorbis, as in Matroska, with zeros for vendor and comments. CORRUPT without them."""
    if private[:1] != b"\x02":
        raise corrupt("Vorbis headers")
    places = range(len(private))
    identification_bytes, position = number_of_255s(private, places, 1)
    comment_bytes, position = number_of_255s(private, places, position)
    start = position + identification_bytes
    end = start + comment_bytes
    # Packet type and "vorbis", vendor length, vendor, number of comments (0), framing bit.
    filler = comment_bytes - len(_VORBIS_COMMENT) - 4 - 4 - 1
    if (
        end > len(private)
        or filler < 0
        or identification_bytes != _VORBIS_IDENTIFICATION_BYTES
        or not private.startswith(_VORBIS_COMMENT, start)
    ):
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


def neutral_esds(content: bytes) -> bytes:
    """Return the content of an ``esds`` with zeros for all that no decoder reads. Raises `ScrubError` as below."""
    neutral, position, kind = bytearray(content[:4].ljust(4, b"\0")), 4, -1
    while (found := _DESCRIPTOR.match(content, position)) and found[1][0]:
        start, tag = found.end(), found[1][0]
        length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(found[2])))
        end = start + length
        if tag == _STREAM:  # the next two are in it
            flags = content[start + 2] if start + 2 < len(content) else 0
            if flags & _ELSEWHERE:
                raise ScrubError(ScrubCode.EXTERNAL_REFERENCE, "a stream by its URL")
            end = start + _STREAM_BYTES + 2 * bool(flags & _DEPENDS) + 2 * bool(flags & _OTHER_CLOCK)
            kept = content[start:end]
        elif tag == _DECODER:
            kind = content[start] if start < len(content) else -1
            end = start + _DECODER_BYTES
            kept = content[start:end]
        elif tag == _SPECIFIC:
            kept = _neutral_specific(kind, content[start:end])
        else:
            kept = content[start : min(end, start + _SYNC_BYTES)] if tag == _SYNC else b""
        neutral += content[position:start] + kept.ljust(min(end, len(content)) - start, b"\0")
        position = end
    return bytes(neutral.ljust(len(content), b"\0"))


def _neutral_specific(kind: int, content: bytes) -> bytes:
    """Return what a decoder of that type of object needs."""
    if kind in _AAC:
        return _neutral_aac(content)
    if kind == _VORBIS:
        return neutral_vorbis_headers(content)
    content = _USER_DATA.sub(lambda found: b"\xff" * len(found[0]), content)
    return content[: _SPECIFIC_BYTES.get(kind, 0)]


def _neutral_aac(config: bytes) -> bytes:
    """Return an ``AudioSpecificConfig`` (ISO/IEC 14496-3, 1.6.2.1) without what follows one of a usual layout.

    Where another one ends, such as that of USAC or ALS, shows only the syntax of all of it: it stays.
    """
    head = int.from_bytes(config[:2].ljust(2, b"\0"), "big")
    kind, rate, channels = head >> 11, head >> 7 & 15, head >> 3 & 15
    usual = kind in _AAC_KINDS and rate < 15 and channels
    return config[:_AAC_BYTES] if usual else config
