"""Codec headers that carry free text: FLAC's metadata blocks and Vorbis' comment header, neutral at the same length."""

from __future__ import annotations

from avion_media.media.container.boxes import corrupt

_FLAC_STREAMINFO, _FLAC_PADDING, _FLAC_LAST = 0, 1, 0x80
_VORBIS_COMMENT = b"\x03vorbis"


def neutral_flac_blocks(blocks: bytes) -> bytes:
    """FLAC metadata blocks (RFC 9639, section 8), all but STREAMINFO turned into zeroed PADDING.

    Raises `Rejected` (corrupt) when a block is cut off.
    """
    neutral = bytearray(blocks)
    position = 0
    while position < len(blocks):
        if position + 4 > len(blocks):
            raise corrupt("FLAC metadata is cut off")
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
    """Matroska's ``CodecPrivate`` of Vorbis: three laced headers, the second without vendor and comments.

    Its length stays: a vendor string of zero bytes fills it. Raises `Rejected` (corrupt) when it is no such thing.
    """
    if private[:1] != b"\x02":
        raise corrupt("Vorbis headers")
    position, lengths = 1, []
    for _ in range(2):
        length = 0
        while position < len(private) and private[position] == 255:
            length, position = length + 255, position + 1
        length += private[position] if position < len(private) else 0
        lengths.append(length)
        position += 1
    start = position + lengths[0]
    end = start + lengths[1]
    # Packet type and "vorbis", vendor length, vendor, number of comments (0), framing bit.
    filler = lengths[1] - len(_VORBIS_COMMENT) - 4 - 4 - 1
    if end > len(private) or filler < 0 or not private.startswith(_VORBIS_COMMENT, start):
        raise corrupt("Vorbis headers")
    comment = _VORBIS_COMMENT + filler.to_bytes(4, "little") + bytes(filler) + bytes(4) + b"\x01"
    return private[:start] + comment + private[end:]
