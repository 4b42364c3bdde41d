"""The waveform and the duration of sound, from one decode by libav (PyAV).

The length is known only at the end. So peaks are kept of short spans, which become twice as long whenever there are too
many of them: the memory does not grow with the length. Pillow compares the samples, because NumPy would cost each fork
of a process 1.6 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any, Final

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from PIL import Image, ImageChops, ImageDraw

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.picture import UPRIGHT
from mediathumbs.damage import judging_damage
from mediathumbs.libav import without_damage
from mediathumbs.pictures import thumbnails_of_frame
from mediathumbs.results import WAVEFORM_SPANS, ThumbnailSize, Waveform, Webp, check_wanted

_DEMUXERS: Final = {
    Format.MP3: "mp3",
    Format.OGG: "ogg",
    Format.FLAC: "flac",
    Format.M4A: "mov",
    Format.WAV: "wav",
    Format.WEBA: "matroska",
}
_LINEAR: Final = ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw")
_DECODERS: Final = ("mp3float", "opus", "vorbis", "flac", "aac", "alac", *(f"pcm_{name}" for name in _LINEAR))
_PLANAR, _PACKED = "fltp", "flt"  # 32-bit floats, full scale 1: by channel, or the channels of a sample side by side
# PyAV 18 counts planes by a null behind them, which frames of eight channels and more do not have.
_MAX_PLANES: Final = 7
_BATCH_SAMPLES: Final = 1 << 16  # many short frames at once: the time of a call is that of a thousand samples
_MAX_SPANS: Final = 1 << 22
# Of all channels: 96 kHz in stereo, or 48 kHz in four channels. A few kilobytes of FLAC can decode to days of silence
# at a higher rate, so more samples than these count as more time: two hours of them take 17 s of CPU time.
_USUAL_SAMPLES_PER_S: Final = 192_000

_PICTURE_SIZE: Final = (1600, 400)
_BACKGROUND, _BARS = (244, 245, 247), (71, 85, 105)
_BAR_SHARE: Final = 0.7  # of its column
_LOWEST: Final = 4  # pixels, of silence


def make_waveform(
    fd: int,
    fmt: Format,
    sizes: Sequence[ThumbnailSize],
    *,
    max_duration_s: float,
    quality: int = 80,
    webp: Webp = "off",
) -> Waveform:
    """Decode the sound in a file of ``fmt`` once. Return its waveform, and thumbnails of a picture of it.

    ``sizes``, ``quality`` and ``webp``: see `make_thumbnails`. Raises `ScrubError`: NO_SOUND, TOO_LONG, and CORRUPT if
    nothing decodes; MemoryError; and ValueError as `make_thumbnails`, or for a format that is no sound.
    """
    check_wanted(fmt, _DEMUXERS, sizes, quality)
    with judging_damage():
        peaks, duration_s, cost_s = Peaks(), 0.0, 0.0
        for frame in _frames(fd, fmt):
            duration_s += frame.samples / frame.sample_rate
            cost_s += frame.samples * frame.layout.nb_channels / _USUAL_SAMPLES_PER_S
            if max(duration_s, cost_s) > max_duration_s:
                raise ScrubError(ScrubCode.TOO_LONG, f"more than {max_duration_s:.0f} s")
            peaks.add(frame)
        waveform = peaks.waveform()
        thumbnails = thumbnails_of_frame(drawn(waveform), sizes, quality, webp, None, UPRIGHT)
    return Waveform(waveform, duration_s, thumbnails)


def _frames(fd: int, fmt: Format) -> Iterator[AudioFrame]:
    """Yield all frames that decode, as floats. Raises `ScrubError` (NO_SOUND, CORRUPT) if none does."""
    os.lseek(fd, 0, os.SEEK_SET)
    options = {"codec_whitelist": ",".join(_DECODERS)}
    packets = frames = 0
    with (
        open(fd, "rb", buffering=0, closefd=False) as file,
        closing(av.open(file, "r", format=_DEMUXERS[fmt], options=options, metadata_errors="replace")) as opened,
    ):
        if not opened.streams.audio:
            raise ScrubError(ScrubCode.NO_SOUND)
        stream = opened.streams.audio[0]
        stream.codec_context.thread_count = 1
        converter: tuple[Any, AudioResampler] | None = None
        with without_damage():  # a container can be cut; what was read before counts
            for packet in opened.demux(stream):
                packets += packet.size > 0
                with without_damage():
                    for frame in packet.decode():
                        if not frame.samples:
                            continue
                        frames += 1
                        wanted = _PLANAR if frame.layout.nb_channels <= _MAX_PLANES else _PACKED
                        if frame.format.name == wanted:
                            yield frame
                            continue
                        kind = frame.format.name, frame.layout.name, frame.sample_rate
                        if converter is None or converter[0] != kind:
                            converter = kind, AudioResampler(wanted, frame.layout, frame.sample_rate)
                        yield from converter[1].resample(frame)
    if not frames:
        raise ScrubError(ScrubCode.CORRUPT if packets else ScrubCode.NO_SOUND, "no frame decodes")


class Peaks:
    """The peaks of equally long spans of samples, whatever the number of samples."""

    def __init__(self, max_spans: int = _MAX_SPANS) -> None:
        self._max_spans = max_spans
        self._span = 1  # samples, a power of two
        self._spans = bytearray()
        self._rest = b""  # peaks of samples that do not fill a span
        self._batch: list[bytearray] = []  # samples of each channel

    def add(self, frame: AudioFrame) -> None:
        """Count the samples of a frame of floats."""
        count = frame.layout.nb_channels
        if len(self._batch) != count:
            self._flush()
            self._batch = [bytearray() for _ in range(count)]
        if frame.format.is_planar:
            parts = [bytes(plane)[: 4 * frame.samples] for plane in frame.planes]
        else:
            samples = memoryview(frame.planes[0]).cast("B").cast("f")[: frame.samples * count]
            parts = [samples[number::count].tobytes() for number in range(count)]
        for channel, part in zip(self._batch, parts, strict=True):
            channel += part
        if len(self._batch[0]) >= 4 * _BATCH_SAMPLES:
            self._flush()

    def waveform(self) -> bytes:
        """Return the peak of each of `WAVEFORM_SPANS` equal parts."""
        self._flush()
        samples = len(self._spans) * self._span + len(self._rest)
        spans = bytes(self._spans) + (bytes((max(self._rest),)) if self._rest else b"")
        bounds = [number * samples // WAVEFORM_SPANS // self._span for number in range(WAVEFORM_SPANS + 1)]
        bounds[-1] = len(spans)
        return bytes(max(spans[min(start, len(spans) - 1) : max(end, start + 1)]) for start, end in pairwise(bounds))

    def _flush(self) -> None:
        if not self._batch or not self._batch[0]:
            return
        peaks = self._rest + _levels(self._batch)
        for channel in self._batch:
            channel.clear()
        whole = len(peaks) - len(peaks) % self._span
        self._rest = peaks[whole:]
        self._spans += _peaks_of_groups(peaks[:whole], self._span)
        while len(self._spans) > self._max_spans:
            if len(self._spans) % 2:
                self._rest = bytes((self._spans.pop(),)).ljust(self._span, b"\0") + self._rest
            self._spans = bytearray(_peaks_of_groups(bytes(self._spans), 2))
            self._span *= 2


def _levels(channels: Sequence[bytearray]) -> bytes:
    """Return the absolute value of each sample, the largest of all channels, as bytes."""
    size = len(channels[0]) // 4, 1
    levels = Image.new("L", size)
    for channel in channels:
        samples = Image.frombuffer("F", size, channel, "raw", "F;32NF", 0, 1)
        for scale in (255, -255):
            levels = ImageChops.lighter(
                levels, samples.point(lambda value, scale=scale: value * scale + 0.5).convert("L")
            )
    return levels.tobytes()


def _peaks_of_groups(levels: bytes, group: int) -> bytes:
    """Return the largest level of each group; ``group`` is a power of two."""
    while group > 1 and levels:
        size = len(levels) // 2, 1
        halves = (Image.frombytes("L", size, levels[start::2]) for start in range(2))
        levels, group = ImageChops.lighter(*halves).tobytes(), group // 2
    return levels


def drawn(waveform: bytes) -> Image.Image:
    """Return a picture of the waveform: a bar for each span, symmetrical about the middle."""
    width, height = _PICTURE_SIZE
    picture = Image.new("RGB", _PICTURE_SIZE, _BACKGROUND)
    draw, column = ImageDraw.Draw(picture), width / len(waveform)
    margin = column * (1 - _BAR_SHARE) / 2
    for number, peak in enumerate(waveform):
        half = max(_LOWEST, peak * height * 0.9 / 255) / 2
        left, right = number * column + margin, (number + 1) * column - margin
        draw.rounded_rectangle((left, height / 2 - half, right, height / 2 + half), (right - left) / 2, _BARS)
    return picture
