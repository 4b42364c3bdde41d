"""Hostile audio: tables of nothing, lengths that lie, and samples that a few bytes stand for."""

from __future__ import annotations

import struct

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import riff_chunk
from mediascrub.tests.test_audio import FLAC, M4A, MP3, OPUS, VORBIS, WEBA, tag, wave
from tests.hostile.media.bomb import READY, Bomb

_FLAC_HEADERS = FLAC[FLAC.index(b"fLaC") :][:42]  # with STREAMINFO


def _flac_of_silence(frames: int) -> bytes:
    """Frames of 65,535 samples of silence each, in 34 bytes: eight channels at 655,350 Hz."""
    rate, channels, bits = 655_350, 8, 16
    packed = (rate << 44 | (channels - 1) << 41 | (bits - 1) << 36).to_bytes(8, "big")
    streaminfo = struct.pack(">HH", 65_535, 65_535) + bytes(6) + packed + bytes(16)
    # Sync, block size and rate (both behind the number), channels and depth, number 0, size less 1, rate in tens; then
    # eight constant subframes of 0 (RFC 9639, 9.1 and 9.2.1).
    header = b"\xff\xf8\x7e\x78\x00" + (65_534).to_bytes(2, "big") + (rate // 10).to_bytes(2, "big")
    header += bytes((_crc(header, 8, 0x07),))
    frame = header + bytes(3 * channels)
    frame += _crc(frame, 16, 0x8005).to_bytes(2, "big")
    return b"fLaC\x80" + len(streaminfo).to_bytes(3, "big") + streaminfo + frame * frames


def _crc(data: bytes, width: int, polynomial: int) -> int:
    register = 0
    for byte in data:
        register ^= byte << width - 8
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register >> width - 1 else 0)) & ((1 << width) - 1)
    return register


def _pcm(length: int, *chunks: bytes) -> bytes:
    fmt = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16))
    return wave(fmt, *chunks, b"data" + struct.pack("<I", length) + bytes(range(256)) * 40)


BOMBS: tuple[Bomb, ...] = (
    Bomb("silence-of-eight-channels.flac", lambda: _flac_of_silence(1000), Reason.TOO_LONG),  # 100 s of it
    Bomb("blocks.flac", lambda: _FLAC_HEADERS + b"\x01\0\0\0" * 250_000, Reason.TOO_COMPLEX),
    Bomb("a-block-beyond-the-end.flac", lambda: _FLAC_HEADERS + b"\x06\xff\xff\xff" + bytes(99), Reason.CORRUPT),
    Bomb("tags.mp3", lambda: tag(b"") * 100_000 + MP3, READY),
    Bomb("a-tag-beyond-the-end.mp3", lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + MP3, Reason.NO_SOUND),
    Bomb("false-headers.mp3", lambda: tag(b"") + b"\xff\xfb\x90" * 300_000, Reason.CORRUPT),
    Bomb("captures.ogg", lambda: OPUS + b"OggS" * 250_000, Reason.TOO_COMPLEX),
    Bomb("chained.ogg", lambda: VORBIS + OPUS, Reason.SEVERAL_TRACKS),
    Bomb("no-comments.ogg", lambda: OPUS[: OPUS.index(b"OggS", 4)], Reason.CORRUPT),
    Bomb("chunks.wav", lambda: _pcm(10_240, riff_chunk(b"LIST", b"") * 250_000), Reason.TOO_COMPLEX),
    Bomb("four-gigabytes.wav", lambda: _pcm(0xFFFFFFF0), READY),
    Bomb("encrypted.m4a", lambda: M4A.replace(b"mp4a", b"enca"), Reason.ENCRYPTED),
    Bomb("no-sound.m4a", lambda: M4A.replace(b"soun", b"text"), Reason.NO_SOUND),
    Bomb("no-clusters.weba", lambda: WEBA[: WEBA.index(b"\x1f\x43\xb6\x75", 300)], Reason.CORRUPT),
)
