"""Sound alone: tags and covers go, and what is decoded stays the same.

The samples are files of LAME, opusenc, oggenc, flac and ffmpeg.
"""

from __future__ import annotations

import hashlib
import io
import struct
import time
from collections.abc import Mapping
from contextlib import suppress

import av
import pytest

from mediascrub import Format, ScrubCode, ScrubError, sniff
from mediascrub.bounds import VideoBounds
from mediascrub.ogg import _checksum

from .made_files import riff_chunk
from .samples import DATA
from .videos import apply_patches, examine_bytes, ffmpeg

PLANTED = b"PLANTED 51.4779N"
SAMPLES = {
    "mp3-lame-id3-ape-gain.mp3": Format.MP3,
    "ogg-opus-cover.opus": Format.OGG,
    "ogg-vorbis-comments.ogg": Format.OGG,
    "flac-id3-cover-gain.flac": Format.FLAC,
    "m4a-aac-cover-chapters.m4a": Format.M4A,
    "wav-extensible-list-unknown-length.wav": Format.WAV,
    "webm-opus-live.weba": Format.WEBA,
}
MP3, OPUS, VORBIS, FLAC, M4A, WAV, WEBA = ((DATA / name).read_bytes() for name in SAMPLES)
"""The first 1.2 seconds of a tone that swells."""


def decoded(data: bytes) -> str:
    """The MD5 of all samples, as far as the file decodes; empty if nothing does."""
    digest, frames = hashlib.md5(), 0
    with suppress(av.EOFError), av.open(io.BytesIO(data), "r") as container:
        for packet in container.demux(container.streams.audio[0]):
            with suppress(av.FFmpegError):
                for frame in packet.decode():
                    digest.update(frame.to_ndarray().tobytes())
                    frames += 1
    return digest.hexdigest() if frames else ""


def scrubbed(data: bytes, fmt: Format | None = None) -> bytes:
    """The scrubbed file, which a second scrub does not change."""
    fmt = fmt or sniff(data, size=len(data)).format
    assert fmt is not None
    clean = apply_patches(examine_bytes(data, fmt).patches, data)
    assert examine_bytes(clean, fmt).patches == ()
    return clean


def refused(data: bytes, fmt: Format) -> ScrubCode:
    with pytest.raises(ScrubError) as caught:
        examine_bytes(data, fmt)
    return caught.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """More files, made by ffmpeg of the sample."""
    directory, source = tmp_path_factory.mktemp("audio"), DATA / "flac-id3-cover-gain.flac"
    text = PLANTED.decode()
    long = ("-metadata", f"comment={text * 6000}")
    made: dict[str, tuple[str, ...]] = {
        "opus.ogg": ("-c:a", "libopus", *long),
        "vorbis.ogg": ("-c:a", "libvorbis", *long),
        "alac.m4a": ("-c:a", "alac", "-metadata", f"title={text}"),
        "fragments.mp4": (
            "-c:a",
            "aac",
            "-movflags",
            "empty_moov",
            "-frag_duration",
            "300000",
            "-metadata",
            f"title={text}",
        ),
        "vbr.mp3": ("-c:a", "libmp3lame", "-q:a", "6", "-write_id3v1", "1", "-metadata", f"title={text}"),
        "float.wav": ("-c:a", "pcm_f32le", "-rf64", "always", "-metadata", f"title={text}"),
        "two.ogg": ("-map", "0:a", "-map", "0:a", "-c:a", "libvorbis"),
        "two.m4a": ("-map", "0:a", "-map", "0:a", "-c:a", "aac"),
        "two.webm": ("-map", "0:a", "-map", "0:a", "-c:a", "libopus"),
        "adpcm.wav": ("-c:a", "adpcm_ms"),
        "ac3.mp4": ("-c:a", "ac3"),
        "flac.ogg": ("-c:a", "flac"),
    }
    for name, options in made.items():
        mapped = options if "-map" in options else ("-map", "0:a", *options)
        ffmpeg("-i", source, "-map_metadata", "-1", *mapped, "-t", "1", directory / name)
    return {name: (directory / name).read_bytes() for name in made}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_heard_stays_and_texts_go(name: str) -> None:
    data = (DATA / name).read_bytes()
    assert PLANTED in data
    plan = examine_bytes(data, sniff(data, size=len(data)).format or Format.MP4)
    assert (plan.format, plan.stream, plan.poster_ranges) == (SAMPLES[name], "A:0", ((0, len(data)),))
    clean = scrubbed(data)
    assert PLANTED not in clean
    assert b"Exif" not in clean
    assert decoded(clean) == decoded(data) != ""


@pytest.mark.parametrize("name", ["opus.ogg", "vorbis.ogg", "alac.m4a", "fragments.mp4", "vbr.mp3", "float.wav"])
def test_files_of_ffmpeg(name: str, made: Mapping[str, bytes]) -> None:
    """Comments over several pages, a fragmented MP4 without pictures, RF64, a table of variable bit rates."""
    data = made[name]
    clean = scrubbed(data)
    assert PLANTED in data
    assert PLANTED not in clean
    assert decoded(clean) == decoded(data) != ""


def tag(content: bytes, *, version: int = 4, flags: int = 0) -> bytes:
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    footer = b"3DI" + bytes((version, 0, flags)) + size if flags & 0x10 else b""
    return b"ID3" + bytes((version, 0, flags)) + size + content + footer


_TEXT = PLANTED.ljust(300, b".")
_V1 = b"TAG" + PLANTED.ljust(125, b"\0")
_LYRICS = b"LYRICSBEGIN" + PLANTED
_FRAMES = MP3[MP3.index(b"Xing") - 13 : MP3.index(b"APETAGEX")]  # behind 4 bytes of header and 9 of side information


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (tag(_TEXT, version=3, flags=0x80) + tag(_TEXT) + tag(_TEXT, version=2), b""),
        (tag(_TEXT, flags=0x10), b""),
        (_TEXT, b""),
        (b"", _V1),
        (b"", b"TAG+" + PLANTED.ljust(223, b"\0") + _V1),
        (b"", _LYRICS + b"LYRICSEND" + _V1),
        (b"", _LYRICS + b"%06d" % len(_LYRICS) + b"LYRICS200" + _V1),
        (b"", tag(_TEXT, flags=0x10)),
        (b"", _TEXT),
        (b"", _TEXT * 6 + _FRAMES[:5000]),
        (b"", _V1 + _FRAMES[:5000]),
    ],
    ids=["several", "footer", "no tag", "v1", "enhanced", "lyrics", "lyrics 2", "v2", "text", "between", "v1 between"],
)
def test_tags_of_mp3_wherever_they_are(before: bytes, behind: bytes) -> None:
    data = before + _FRAMES + behind
    clean = scrubbed(data, Format.MP3)
    assert PLANTED in data
    assert PLANTED not in clean
    assert decoded(clean[len(before) : len(before + _FRAMES)]) == decoded(_FRAMES) != ""


def test_the_first_frame_of_an_mp3_keeps_what_a_player_needs() -> None:
    """The delay and the table, but neither gain nor the version of the encoder; its checksum is right again."""
    before, after = _FRAMES[:200], scrubbed(_FRAMES, Format.MP3)[:200]
    at = before.index(b"LAME")
    assert after[:at] == before[:at]
    assert after[at : at + 9] == b"LAME" + bytes(5)
    assert before[at + 11 : at + 19] != after[at + 11 : at + 19] == bytes(8)
    assert after[at + 19 : at + 34] == before[at + 19 : at + 34]
    assert crc_16_arc(before[: at + 34]) == before[at + 34 : at + 36]
    assert crc_16_arc(after[: at + 34]) == after[at + 34 : at + 36]


def crc_16_arc(data: bytes) -> bytes:
    """Bit by bit, as ``x^16 + x^15 + x^2 + 1`` is divided, with the bits of each byte reversed."""
    register = 0
    for bit in "".join(f"{byte:08b}"[::-1] for byte in data):
        register ^= int(bit) << 15
        register = (register << 1 ^ 0x8005 if register & 0x8000 else register << 1) & 0xFFFF
    return int(f"{register:016b}"[::-1], 2).to_bytes(2, "big")


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("share", [0.8, 0.97])
def test_a_file_that_is_cut_off_sounds_as_before(name: str, share: float) -> None:
    data = (DATA / name).read_bytes()
    data = data[: int(len(data) * share)]
    if name.startswith("m4a"):  # its index is at the end
        assert refused(data, Format.M4A) is ScrubCode.CORRUPT
    else:
        assert decoded(scrubbed(data)) == decoded(data)


@pytest.mark.parametrize("data", [MP3, VORBIS, FLAC], ids=["mp3", "vorbis", "flac"])
def test_damage_stays_damage(data: bytes) -> None:
    damaged = bytearray(data)
    for place in range(len(data) * 3 // 5, len(data) - 400, 217):
        damaged[place] ^= 0x55
    assert decoded(scrubbed(bytes(damaged))) == decoded(bytes(damaged)) != decoded(data)


def test_live_webm_of_clusters_without_a_length() -> None:
    """As browsers record it."""
    cluster = WEBA.rindex(b"\x1f\x43\xb6\x75")
    assert WEBA[cluster + 4] >> 6 == 1, "a length of two bytes"
    data = WEBA[: cluster + 4] + b"\x7f\xff" + WEBA[cluster + 6 :]
    assert examine_bytes(data, Format.WEBM).format is Format.WEBA
    assert decoded(scrubbed(data)) == decoded(data) != ""


def ogg_page(serial: int, flags: int, number: int, packet: bytes) -> bytes:
    lacing = b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,))
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, len(lacing)) + lacing + packet
    return page[:22] + _checksum(page) + page[26:]


_THEORA, _SKELETON = (
    ogg_page(7, 2, 0, packet) for packet in (b"\x80theora\x03\x02\x01", b"fishead\0\x04\0" + bytes(58))
)
_FIRST_PAGE_BYTES = OPUS.index(b"OggS", 4)
_FMT = riff_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))


def wave(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (OPUS + VORBIS, ScrubCode.SEVERAL_TRACKS),
        (OPUS + OPUS, ScrubCode.SEVERAL_TRACKS),
        (OPUS[:_FIRST_PAGE_BYTES] + _THEORA + OPUS[_FIRST_PAGE_BYTES:], ScrubCode.SEVERAL_TRACKS),
        (_THEORA + OPUS, ScrubCode.SEVERAL_TRACKS),
        (_SKELETON + OPUS, ScrubCode.UNSUPPORTED),
        (OPUS[:_FIRST_PAGE_BYTES] + _SKELETON + OPUS[_FIRST_PAGE_BYTES:], ScrubCode.UNSUPPORTED),
        (OPUS[:_FIRST_PAGE_BYTES], ScrubCode.CORRUPT),
        (M4A.replace(b"mp4a", b"enca"), ScrubCode.ENCRYPTED),
        (M4A.replace(b"mp4a", b"samr"), ScrubCode.UNSUPPORTED),
        (M4A.replace(b"soun", b"text"), ScrubCode.NO_SOUND),
        (tag(b"") + b"\xff\xfb\x00\xc4" + bytes(4000), ScrubCode.UNSUPPORTED),
        (tag(b"") + bytes(4000), ScrubCode.CORRUPT),
        (tag(bytes(100)) + _V1, ScrubCode.NO_SOUND),
        (FLAC[: FLAC.index(b"fLaC") + 30], ScrubCode.CORRUPT),
        (wave(_FMT), ScrubCode.NO_SOUND),
        (wave(riff_chunk(b"data", bytes(8))), ScrubCode.CORRUPT),
        (wave(_FMT.replace(b"\x01", b"\x55", 1), riff_chunk(b"data", bytes(8))), ScrubCode.UNSUPPORTED),
    ],
)
def test_what_is_refused(data: bytes, code: ScrubCode) -> None:
    found = sniff(data, size=len(data)).format
    assert found is not None
    assert refused(data, found) is code


def test_files_of_several_tracks_and_of_other_codecs(made: Mapping[str, bytes]) -> None:
    several = [refused(made[f"two.{kind}"], fmt) for kind, fmt in (("ogg", Format.OGG), ("m4a", Format.M4A))]
    assert [*several, refused(made["two.webm"], Format.WEBM)] == [ScrubCode.SEVERAL_TRACKS] * 3
    others = ("adpcm.wav", Format.WAV), ("ac3.mp4", Format.MP4), ("flac.ogg", Format.OGG)
    assert [refused(made[name], fmt) for name, fmt in others] == [ScrubCode.UNSUPPORTED] * 3
    video = (DATA / "mp4-h264-faststart.mp4").read_bytes()
    assert refused(video, Format.M4A) is ScrubCode.SEVERAL_TRACKS
    assert refused((DATA / "webm-vp8.webm").read_bytes(), Format.WEBA) is ScrubCode.SEVERAL_TRACKS


def test_the_rest_of_a_wave_file_is_its_sound_if_its_length_is_not_known() -> None:
    sound = b"".join(struct.pack("<h", value * 7 % 2000) for value in range(1000))
    for length in (0, 0xFFFFFFFF):
        data = wave(_FMT, b"data" + struct.pack("<I", length) + sound)
        assert scrubbed(data) == data
        assert examine_bytes(data, Format.WAV).duration_s == 1000 / 8000


@pytest.mark.parametrize(
    "data",
    [
        tag(b"") * 100_000,
        tag(b"") + b"\xff\xfb\x90\xc4" * 250_000,
        tag(b"") + _FRAMES[:300] + b"\xff\xfb\x90" * 300_000,
        b"OggS" * 250_000,
        OPUS[:_FIRST_PAGE_BYTES] + (OPUS[_FIRST_PAGE_BYTES : _FIRST_PAGE_BYTES + 26] + b"\xff" + b"\xff" * 10) * 25_000,
        ogg_page(1, 0, 0, b"") * 35_000,
        wave(_FMT, riff_chunk(b"LIST", b"") * 120_000, riff_chunk(b"data", bytes(4))),
        FLAC[: FLAC.index(b"fLaC") + 42] + b"\x01\0\0\0" * 250_000,
        MP3 + b"TAG".ljust(128, b"\0") * 8000,
    ],
    ids=[
        "tags",
        "false frames",
        "false headers",
        "captures",
        "false pages",
        "pages",
        "chunks",
        "blocks",
        "tags at the end",
    ],
)
def test_a_hostile_megabyte_takes_no_time(data: bytes) -> None:
    found = sniff(data[:4096], size=len(data)).format
    assert found is not None
    before = time.process_time()
    try:
        examine_bytes(data, found)
    except ScrubError:
        pass
    assert time.process_time() - before < 5


def test_bounds() -> None:
    assert _refused_within(VideoBounds(max_duration_s=0.2), WAV) is ScrubCode.TOO_LONG
    assert _refused_within(VideoBounds(max_samples=3), VORBIS) is ScrubCode.TOO_COMPLEX
    assert _refused_within(VideoBounds(max_index_bytes=100), OPUS) is ScrubCode.TOO_LARGE


def _refused_within(bounds: VideoBounds, data: bytes) -> ScrubCode:
    found = sniff(data, size=len(data)).format
    assert found is not None
    with pytest.raises(ScrubError) as caught:
        examine_bytes(data, found, bounds)
    return caught.value.code
