"""How many bytes of sound a chunk holds, by its sample entry (QuickTime File Format, sound sample descriptions)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avion_media.media.container.boxes import Box, Region

# The field of the entry holds 16 for these, whatever they are.
_BITS = {b"ulaw": 8, b"alaw": 8, b"in24": 24, b"in32": 32, b"fl32": 32, b"fl64": 64}
_DEFAULT_BITS = 16
# Frames of a packet, and its bytes for each channel. Writers leave out what everybody knows.
_PACKETS = {b"ima4": (64, 34), b"MAC3": (6, 2), b"MAC6": (6, 1), b"agsm": (160, 33)}


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """``frames`` (one sample of each channel) that take ``size_bytes`` together; one frame where it is not packed."""

    size_bytes: int
    frames: int = 1

    def bytes_of(self, frames: int) -> int:
        """What so many frames take."""
        return -(-frames // self.frames) * self.size_bytes


def read_sound_packets(region: Region, stsd: Box, entries: Sequence[Box]) -> tuple[SoundPacket, ...]:
    """The packets of each sample entry. What an entry leaves out is taken as large, as decoders may guess it.

    Raises `Rejected` (corrupt) on an entry that is too short.
    """
    (stsd_version,) = region.integers(stsd, "B")
    return tuple(_read_packet(region, entry, stsd_version) for entry in entries)


def _read_packet(region: Region, entry: Box, stsd_version: int) -> SoundPacket:
    version, channels, bits = region.integers(entry, "H6xHH", 8)
    frames, packet_bytes, frame_bytes = 1, 0, 0
    if stsd_version == 0 and version == 1:
        frames, packet_bytes, frame_bytes = region.integers(entry, "III", 28)
        # Of one channel, and of all of them. Writers mix them up.
        packet_bytes = max(packet_bytes * channels, frame_bytes)
    elif stsd_version == 0 and version == 2:
        channels, bits, packet_bytes, frames = region.integers(entry, "I4xI4xII", 40)
    channels = max(1, channels)
    if entry.type in _PACKETS:
        frames, packet_bytes = _PACKETS[entry.type]
        return SoundPacket(packet_bytes * channels, frames)
    if frames > 1 and packet_bytes:
        return SoundPacket(packet_bytes, frames)
    # No codec makes it longer than uncompressed sound.
    bits = _BITS.get(entry.type, bits or _DEFAULT_BITS)
    return SoundPacket(max(channels * -(-bits // 8), packet_bytes))
