"""``python -m tests.bench.audio``: sixty audio files of real encoders, before and after the scrub.

The files are made with ffmpeg, LAME, opusenc, oggenc and flac, with a text in every place that the encoder offers:
tags, covers, ReplayGain, comments, chapters. Some are damaged afterwards. Of each the decoded samples before and after
must have the same MD5, ``strings`` must not find the text, and the waveform must differ by at most 1 from the peaks of
the samples that ffmpeg writes. Encoders that are not installed are named, and their files are left out.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
import trio

from avion_media.backends.files import SpooledSource, write_at
from avion_media.common.formats import BY_NAME
from avion_media.media.pipeline import MediaPipeline
from avion_media.media.sandbox import open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import HEAD_BYTES, sniff
from mediascrub.tests.made_files import riff_chunk
from mediascrub.tests.videos import ffmpeg

TEXT = "PLANTED 51.4779N"
_TAGS = ("-metadata", f"title={TEXT}", "-metadata", f"artist={TEXT}", "-metadata", f"comment={TEXT}")
_LONG = ("-metadata", f"comment={TEXT * 7000}")  # more than a page of Ogg can hold
Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Made:
    """A file: the command of its encoder, with SOURCE, COVER and TARGET in place of paths, and what happens to it then.

    ``source``: the number of the source that it is made of.
    """

    name: str
    command: Sequence[str]
    change: Change = bytes
    source: int = 0


def _ffmpeg(*options: str) -> tuple[str, ...]:
    return "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", "SOURCE", *options, "TARGET"


def _lame(*options: str) -> tuple[str, ...]:
    return "lame", "--quiet", *options, "SOURCE", "TARGET"


def _flac(*options: str) -> tuple[str, ...]:
    tags = ("-T", f"TITLE={TEXT}", "--picture", "COVER", "--replay-gain", "--padding", "4000", "-S", "1s")
    return "flac", "--silent", *options, *tags, "SOURCE", "-o", "TARGET"


_WITH_COVER = ("-i", "COVER", "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
_LAME_TAGS = ("--tt", TEXT, "--ta", TEXT, "--tc", TEXT, "--ti", "COVER")
_OPUSENC_TAGS = ("--title", TEXT, "--comment", f"LOCATION={TEXT}")


# --- what happens to a file behind its encoder ----------------------------------------------------------------------


def _id3v2(content: bytes, version: int = 4, flags: int = 0) -> bytes:
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    footer = b"3DI" + bytes((version, 0, flags)) + size if flags & 0x10 else b""
    return b"ID3" + bytes((version, 0, flags)) + size + content + footer


_FRAME = b"TXXX" + struct.pack(">IH", len(TEXT) + 2, 0) + b"\0\0" + TEXT.encode()
_V1 = b"TAG" + TEXT.encode().ljust(125, b" ")


def _ape() -> bytes:
    item = struct.pack("<II", len(TEXT), 0) + b"Comment\0" + TEXT.encode()
    head, footer = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8) for flags in (0xA0 << 24, 1 << 31)
    )
    return head + item + footer


def _lyrics() -> bytes:
    fields = b"LYRICSBEGINLYR%05d" % len(TEXT) + TEXT.encode()
    return fields + b"%06dLYRICS200" % len(fields)


def _cut(share: float, data: bytes) -> bytes:
    return data[: int(len(data) * share)]


def _flipped(data: bytes) -> bytes:
    damaged = bytearray(data)
    for place in range(len(data) // 3, len(data) - 400, len(data) // 40):
        damaged[place] ^= 0x24
    return bytes(damaged)


def _overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + b"\x5a" * 200 + data[middle + 200 :]


def _broadcast(data: bytes) -> bytes:
    """Add chunks of a recorder before the sound, of odd length, and let the length of the sound be unknown."""
    at = data.index(b"data")
    chunks = riff_chunk(b"LIST", b"INFO" + riff_chunk(b"INAM", TEXT.encode() + b"!")) + riff_chunk(
        b"bext", TEXT.encode().ljust(603, b"\0")
    )
    return b"RIFF\xff\xff\xff\xffWAVE" + data[12:at] + chunks + b"data\xff\xff\xff\xff" + data[at + 8 :]


def _trailing_chunks(data: bytes) -> bytes:
    """Add chunks behind the sound, one of an odd length."""
    return data + riff_chunk(b"id3 ", _id3v2(_FRAME)) + riff_chunk(b"iXML", f"<NOTE>{TEXT}</NOTE>!".encode())


def _flac_application(data: bytes) -> bytes:
    block = b"\x02" + struct.pack(">I", len(TEXT) + 4)[1:] + b"test" + TEXT.encode()
    return data[:42] + block + data[42:]  # behind fLaC and STREAMINFO


def _without_cluster_lengths(data: bytes) -> bytes:
    """As browsers record: the last cluster ends with the file."""
    at = data.rindex(b"\x1f\x43\xb6\x75") + 4
    width = 9 - data[at].bit_length()
    unknown = ((1 << 7 * width + 1) - 1).to_bytes(width, "big")
    return data[:at] + unknown + data[at + width :]


FILES: tuple[Made, ...] = (
    Made("lame-vbr.mp3", _lame("-V2", *_LAME_TAGS, "--add-id3v2")),
    Made("lame-gain.mp3", _lame("-b", "128", "--replaygain-accurate", *_LAME_TAGS)),
    Made("lame-crc-mono.mp3", _lame("-m", "m", "-b", "64", "-p", "--tt", TEXT), source=1),
    Made("lame-v1.mp3", _lame("-b", "96", "--id3v1-only", "--tt", TEXT)),
    Made("lame-no-header.mp3", _lame("-t", "-b", "112", "--tt", TEXT)),
    Made("lame-abr-padded.mp3", _lame("--abr", "100", "--pad-id3v2-size", "3000", *_LAME_TAGS)),
    Made("lame-ape.mp3", _lame("-V5"), lambda data: data + _ape() + _V1),
    Made("lame-lyrics.mp3", _lame("-V5"), lambda data: data + _lyrics() + _V1),
    Made("lame-footer.mp3", _lame("-V5"), lambda data: _id3v2(_FRAME, flags=0x10) + data),
    Made("lame-several-tags.mp3", _lame("-V5", "--tt", TEXT), lambda data: _id3v2(_FRAME, 3) + _id3v2(_FRAME) + data),
    Made("lame-tag-behind.mp3", _lame("-V5"), lambda data: data + _id3v2(_FRAME, flags=0x10)),
    Made("lame-cut.mp3", _lame("-V2", *_LAME_TAGS), partial(_cut, 0.7)),
    Made("lame-damaged.mp3", _lame("-b", "128", *_LAME_TAGS), _flipped),
    Made("ffmpeg-v1.mp3", _ffmpeg("-c:a", "libmp3lame", "-b:a", "128k", "-write_id3v1", "1", *_TAGS)),
    Made("ffmpeg-cover.mp3", _ffmpeg(*_WITH_COVER, "-c:a", "libmp3lame", "-q:a", "4", "-id3v2_version", "3", *_TAGS)),
    Made("ffmpeg-shine.mp3", _ffmpeg("-c:a", "libshine", "-b:a", "128k", *_TAGS)),
    Made("ffmpeg-overwritten.mp3", _ffmpeg("-c:a", "libmp3lame", "-b:a", "96k", *_TAGS), _overwritten),
    Made("opusenc-cover.opus", ("opusenc", "--quiet", *_OPUSENC_TAGS, "--picture", "COVER", "SOURCE", "TARGET")),
    Made("opusenc-voice.opus", ("opusenc", "--quiet", "--bitrate", "16", *_OPUSENC_TAGS, "SOURCE", "TARGET"), source=1),
    Made("opusenc-60ms.opus", ("opusenc", "--quiet", "--framesize", "60", *_OPUSENC_TAGS, "SOURCE", "TARGET")),
    Made("opusenc-cut.opus", ("opusenc", "--quiet", *_OPUSENC_TAGS, "SOURCE", "TARGET"), partial(_cut, 0.6)),
    Made("opusenc-damaged.opus", ("opusenc", "--quiet", *_OPUSENC_TAGS, "SOURCE", "TARGET"), _overwritten),
    Made("ffmpeg.opus", _ffmpeg("-c:a", "libopus", *_TAGS, "-metadata", "R128_TRACK_GAIN=512")),
    Made("ffmpeg-long-comment.opus", _ffmpeg("-c:a", "libopus", *_LONG)),
    Made("oggenc-low.ogg", ("oggenc", "-Q", "-q", "0", "-t", TEXT, "-a", TEXT, "-o", "TARGET", "SOURCE"), source=1),
    Made("oggenc-high.ogg", ("oggenc", "-Q", "-q", "7", "-t", TEXT, "-c", f"X={TEXT}", "-o", "TARGET", "SOURCE")),
    Made("ffmpeg.ogg", _ffmpeg("-c:a", "libvorbis", *_TAGS)),
    Made("ffmpeg-long-comment.ogg", _ffmpeg("-c:a", "libvorbis", *_LONG)),
    Made("ffmpeg-cut.ogg", _ffmpeg("-c:a", "libvorbis", *_TAGS), partial(_cut, 0.8)),
    Made("ffmpeg-damaged.ogg", _ffmpeg("-c:a", "libvorbis", *_TAGS), _overwritten),
    Made("flac-fast.flac", _flac("-0")),
    Made("flac-best.flac", _flac("-8")),
    Made("flac-application.flac", _flac(), _flac_application),
    Made("flac-id3.flac", _flac(), lambda data: _id3v2(_FRAME) + data),
    Made("flac-v1.flac", _flac(), lambda data: data + _V1),
    Made("flac-damaged.flac", _flac(), _flipped),
    Made("ffmpeg-24.flac", _ffmpeg("-c:a", "flac", "-sample_fmt", "s32", *_TAGS), source=2),
    Made("ffmpeg-cut.flac", _ffmpeg("-c:a", "flac", *_TAGS), partial(_cut, 0.75)),
    Made("aac.m4a", _ffmpeg("-c:a", "aac", *_TAGS, "-metadata", f"location={TEXT}")),
    Made("aac-cover.m4a", _ffmpeg(*_WITH_COVER, "-c:a", "aac", *_TAGS)),
    Made("aac-chapters.m4a", _ffmpeg("-i", "CHAPTERS", "-map_metadata", "1", "-map_chapters", "1", "-c:a", "aac")),
    Made("aac-fast-start.m4a", _ffmpeg("-c:a", "aac", "-movflags", "+faststart", *_TAGS)),
    Made("aac-fragments.mp4", _ffmpeg("-c:a", "aac", "-movflags", "empty_moov", "-frag_duration", "400000", *_TAGS)),
    Made("aac-mp4.mp4", _ffmpeg("-c:a", "aac", "-ar", "48000", *_TAGS), source=1),
    Made("alac.m4a", _ffmpeg("-c:a", "alac", *_TAGS)),
    Made("alac-24-cover.m4a", _ffmpeg(*_WITH_COVER, "-c:a", "alac", "-sample_fmt", "s32p", *_TAGS), source=2),
    Made("aac-cut.m4a", _ffmpeg("-c:a", "aac", "-movflags", "+faststart", *_TAGS), partial(_cut, 0.8)),
    Made("aac-damaged.m4a", _ffmpeg("-c:a", "aac", "-movflags", "+faststart", *_TAGS), _overwritten),
    Made("ffmpeg.wav", _ffmpeg(*_TAGS)),
    Made("ffmpeg-24.wav", _ffmpeg("-c:a", "pcm_s24le", *_TAGS), source=2),
    Made("ffmpeg-float.wav", _ffmpeg("-c:a", "pcm_f32le", *_TAGS)),
    Made("ffmpeg-u8.wav", _ffmpeg("-c:a", "pcm_u8", "-t", "1.00003", *_TAGS), source=1),
    Made("ffmpeg-mulaw.wav", _ffmpeg("-c:a", "pcm_mulaw", *_TAGS), source=1),
    Made("ffmpeg-rf64.wav", _ffmpeg("-rf64", "always", *_TAGS)),
    Made("ffmpeg-surround.wav", _ffmpeg("-ac", "6", *_TAGS)),
    Made("recorder.wav", _ffmpeg("-fflags", "+bitexact"), _broadcast),
    Made("chunks-behind.wav", _ffmpeg("-c:a", "pcm_alaw", *_TAGS), _trailing_chunks, source=1),
    Made("ffmpeg-cut.wav", _ffmpeg(*_TAGS), partial(_cut, 0.6)),
    Made("opus.weba", _ffmpeg("-c:a", "libopus", "-f", "webm", *_TAGS)),
    Made("vorbis.weba", _ffmpeg("-c:a", "libvorbis", "-f", "webm", *_TAGS)),
    Made("live.weba", _ffmpeg("-c:a", "libopus", "-f", "webm", "-live", "1", *_TAGS), _without_cluster_lengths),
    Made("opus-cut.weba", _ffmpeg("-c:a", "libopus", "-f", "webm", *_TAGS), partial(_cut, 0.7)),
)
_SOURCES = (  # a tone that swells with noise in stereo, a voice-like mono, and 24 bits with silence at both ends
    ("aevalsrc=0.6*t/5*sin(2*PI*440*t)|0.7*sin(2*PI*(200+50*t)*t)*random(0):d=5:s=44100", "pcm_s16le"),
    ("aevalsrc=0.9*sin(2*PI*170*t)*(0.5+0.5*sin(2*PI*2*t)):d=3:s=24000", "pcm_s16le"),
    ("aevalsrc=between(t\\,0.5\\,3.5)*0.99*sin(2*PI*997*t)|0.1*random(1):d=4:s=48000", "pcm_s24le"),
)


def make(files: Sequence[Made], folder: Path) -> Iterator[tuple[Made, bytes]]:
    """Make the files, one after the other. Those whose encoder is missing are left out."""
    sources = [folder / f"source-{number}.wav" for number in range(len(_SOURCES))]
    for path, (tone, codec) in zip(sources, _SOURCES, strict=True):
        ffmpeg("-f", "lavfi", "-i", tone, "-c:a", codec, "-bitexact", path)
    cover, chapters = folder / "cover.jpg", folder / "chapters.txt"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=300x300", "-frames:v", "1", cover)
    comment = b"\xff\xfe" + struct.pack(">H", len(TEXT) + 2) + TEXT.encode()
    cover.write_bytes(cover.read_bytes().replace(b"\xff\xd8", b"\xff\xd8" + comment, 1))
    part = "[CHAPTER]\nTIMEBASE=1/1000\nSTART={}\nEND={}\ntitle={}\n"
    chapters.write_text(f";FFMETADATA1\ntitle={TEXT}\n" + "".join(part.format(at, at + 2000, TEXT) for at in (0, 2000)))
    for file in files:
        if shutil.which(file.command[0]) is None:
            continue
        target = folder / file.name
        paths = {"SOURCE": sources[file.source], "COVER": cover, "CHAPTERS": chapters, "TARGET": target}
        command = [str(paths.get(word, word)) for word in file.command]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        data = file.change(target.read_bytes())
        target.write_bytes(data)
        yield file, data


def texts_in(path: Path) -> int:
    """How often ``strings`` finds the text, of 8 or 16 bits a character."""
    commands = (["strings", f"-e{kind}", "-a", str(path)] for kind in "slb")
    found = (subprocess.run(command, check=True, capture_output=True, timeout=60).stdout for command in commands)
    return sum(each.count(TEXT.encode()) for each in found)


def decoded(path: Path, *options: str) -> bytes:
    """What ffmpeg writes of the decoded samples, as far as they decode."""
    command = ["ffmpeg", "-nostdin", "-v", "quiet", "-i", str(path), "-map", "0:a", *options, "-"]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).stdout


def peaks_of(path: Path) -> list[int]:
    """The waveform, by the samples that ffmpeg writes."""
    probe = ["ffprobe", "-v", "quiet", "-select_streams", "a:0", "-show_entries", "stream=channels", "-of", "csv=p=0"]
    probed = subprocess.run([*probe, str(path)], check=True, capture_output=True, timeout=60).stdout
    channels = int(probed.split(b",")[0])
    samples = numpy.frombuffer(decoded(path, "-f", "f32le"), "<f4").reshape(-1, channels)
    levels = numpy.abs(samples).max(axis=1)
    parts = (levels[number * len(levels) // 100 : (number + 1) * len(levels) // 100] for number in range(100))
    return [min(255, round(255 * float(part.max()))) for part in parts]


@dataclass(frozen=True)
class Compared:
    """One file before and after the scrub."""

    name: str
    same_samples: bool
    texts_before: int
    texts: int  # in the scrubbed file
    largest_difference: int  # of the waveform

    @property
    def holds(self) -> bool:
        """Whether everything that is promised is true of it."""
        return self.same_samples and self.texts == 0 and self.largest_difference <= 1


async def waveform_of(pipeline: MediaPipeline, data: bytes, clean: Path) -> bytes:
    """Process the file in the sandbox, and write the scrubbed one."""
    found = sniff(data[:HEAD_BYTES], size=len(data)).format
    assert found is not None, clean.name
    with ExitStack() as files:
        spool = files.enter_context(clean.open("w+b", buffering=0))
        write_at(spool.fileno(), data, 0)
        made = await pipeline.process(SpooledSource(spool.fileno(), len(data)), BY_NAME[found.value], files)
    return made.waveform


def compare(path: Path, clean: Path, waveform: bytes) -> Compared:
    """Compare the file with the scrubbed one, and its waveform with its samples."""
    return Compared(
        path.name,
        decoded(path, "-f", "md5") == decoded(clean, "-f", "md5") != b"",
        texts_in(path),
        texts_in(clean),
        max(abs(one - other) for one, other in zip(waveform, peaks_of(path), strict=True)),
    )


async def main() -> int:
    """Compare all files. Return 1 if something does not hold."""
    missing = sorted({file.command[0] for file in FILES if shutil.which(file.command[0]) is None})
    results: list[Compared] = []
    with tempfile.TemporaryDirectory() as folder:
        async with open_sandbox(budget_bytes=2 << 30) as sandbox:
            pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), SandboxConfig())
            for file, data in make(FILES, Path(folder)):
                path, clean = (Path(folder) / name for name in (file.name, f"clean-{file.name}"))
                result = compare(path, clean, await waveform_of(pipeline, data, clean))
                results.append(result)
                print(f"{'ok  ' if result.holds else 'FAIL'} {result}")
    print(
        f"{len(results)} of {len(FILES)} files: same samples {sum(each.same_samples for each in results)}; with texts"
        f" {sum(each.texts_before > 0 for each in results)} before and {sum(each.texts > 0 for each in results)} after;"
        f" waveforms within {max(each.largest_difference for each in results)}"
    )
    if missing:
        print(f"not installed: {', '.join(missing)}")
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(trio.run(main))
