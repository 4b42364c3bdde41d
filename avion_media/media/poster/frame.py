"""One frame of a video as raw RGB, by ffmpeg in the sandbox. ffmpeg-python only writes the argument lists."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import ffmpeg

from avion_media.domain.formats import MediaFormat
from avion_media.domain.media import fit_within
from avion_media.media.poster.colour import to_srgb
from avion_media.media.poster.ffmpeg import DECODERS, INPUT_FD, URL, PosterBounds, complaint, input_options
from avion_media.media.poster.probe import VideoProbe
from avion_media.media.sandbox import Completed, Sandbox, read_only

_OUTPUT_FD: Final = 4
_SAMPLE_EVERY_S: Final = 0.25
# The first picture may be shown some time after the file begins. Reading ends with it.
_FIRST_WITHIN_S: Final = 1.0
_SAMPLING: Final = f"isnan(prev_selected_t)+gte(t-prev_selected_t,{_SAMPLE_EVERY_S})"
SAMPLE_SIDE: Final = 32
SAMPLE_BYTES: Final = SAMPLE_SIDE * SAMPLE_SIDE

_TAIL: Final = SAMPLE_BYTES // 50  # 2 % at either end: a logo or a channel's name on black is still a blank frame
_MIN_SPREAD: Final = 24  # of 255; film grain and coding noise on black stay below 10 once scaled down


async def extract_poster(
    sandbox: Sandbox,
    fd: int,
    fmt: MediaFormat,
    probe: VideoProbe,
    longest_edge: int,
    *,
    output_fd: int,
    bounds: PosterBounds | None = None,
) -> tuple[int, int]:
    """Write the first frame that is not blank of the video that ``probe`` describes; returns its width and height.

    The frame is as displayed, at most ``longest_edge`` long, in sRGB: 3 bytes a pixel, rows from the top without
    padding, from the start of ``output_fd``. Where all that is searched is blank, it is the first one.

    Decodes forward from the start and never seeks by time, so ``fd`` may be sparse beyond the index and the
    first seconds.

    Raises `Rejected`: CORRUPT when no frame decodes, or what the sandbox rejects; and `Unavailable`.
    A cancel leaves nothing running, and ``output_fd`` with anything in it.
    """
    bounds = bounds or PosterBounds()
    size = fit_within(probe.width, probe.height, longest_edge)
    with read_only(fd) as source:
        await _Run(sandbox, source, output_fd, fmt, probe, size, bounds).write_first_not_blank()
    return size


@dataclass(frozen=True, slots=True)
class _Run:
    sandbox: Sandbox
    source: int
    target: int
    fmt: MediaFormat
    probe: VideoProbe
    size: tuple[int, int]
    bounds: PosterBounds

    @property
    def frame_bytes(self) -> int:
        return self.size[0] * self.size[1] * 3

    async def write_first_not_blank(self) -> None:
        """Write the frame to the target.

        Nearly always the first frame serves: one run. Otherwise samples are looked at until one is not blank, and a
        third run decodes up to that one again: blank frames are the cheapest there are.
        """
        if is_blank(await self._frame(0)):
            chosen = await self._search()
            if chosen:
                await self._frame(chosen)

    async def _frame(self, sample: int) -> bytes:
        """Write the frame of that sample to the target; a thumbnail of it in grey for judgement."""
        frames = self._upright(self._sampled(sample)).filter_multi_output("split")
        whole = ffmpeg.output(frames[0], URL, fd=_OUTPUT_FD, pix_fmt="rgb24", **_raw(1))
        small = ffmpeg.output(_grey(frames[1]), "pipe:1", pix_fmt="gray", **_raw(1))
        self._rewind()
        done = await self._ffmpeg(ffmpeg.merge_outputs(whole, small), files={_OUTPUT_FD: self.target})
        written = os.fstat(self.target).st_size
        if done.returncode != 0 or written != self.frame_bytes or len(done.stdout) != SAMPLE_BYTES:
            raise complaint(done.stderr)
        return done.stdout

    async def _search(self) -> int:
        """The number of the first sample that is not blank; 0 when there is none."""
        samples = 1 + int(self.bounds.scan_s / _SAMPLE_EVERY_S)
        small = ffmpeg.output(_grey(self._upright(self._sampled(None))), "pipe:1", pix_fmt="gray", **_raw(samples))

        def found(grey: bytearray) -> bool:
            last = len(grey) // SAMPLE_BYTES
            return any(not is_blank(_sample(grey, number)) for number in range(max(1, last - 64), last))

        done = await self._ffmpeg(small, files={}, enough=found)
        count = len(done.stdout) // SAMPLE_BYTES
        return next((number for number in range(1, count) if not is_blank(_sample(done.stdout, number))), 0)

    def _sampled(self, number: int | None) -> Any:
        """The video's frames: every sample, or only the one with that number."""
        options = input_options(self.fmt) | {
            "codec_whitelist": DECODERS,
            "max_pixels": self.bounds.video.max_pixels,  # should frames turn out larger than the probe said
            # Of a sparse file no more is there: what lies beyond may be the first half of a picture.
            "t": self.bounds.scan_s + (_FIRST_WITHIN_S if number == 0 else 0),
        }
        source = ffmpeg.input(URL, noautorotate=None, **options)
        sampled = source[self.probe.stream].filter("select", _SAMPLING)
        return sampled if number is None else sampled.filter("select", f"eq(n,{number})")

    def _upright(self, frames: Any) -> Any:
        """Scaled, in sRGB, and only then turned: that way the turn is of a small picture."""
        orientation = self.probe.orientation
        width, height = self.size[::-1] if orientation.swaps_sides else self.size
        for name, options in to_srgb(self.probe, width, height):
            frames = frames.filter(name, **options)
        frames = frames.filter("format", "gbrp")
        for name, arguments in orientation.filters():
            frames = frames.filter(name, *arguments)
        return frames.filter("setsar", 1)

    async def _ffmpeg(self, output: Any, *, files: dict[int, int], enough: Any = None) -> Completed:
        arguments = output.global_args(
            "-nostdin", "-v", "error", "-filter_threads", "1", "-filter_complex_threads", "1"
        ).compile()
        os.lseek(self.source, 0, os.SEEK_SET)
        return await self.sandbox.execute(
            arguments,
            files={INPUT_FD: self.source, **files},
            limits=self.bounds.for_frames(self.probe.coded_pixels, self.frame_bytes),
            max_stdout_bytes=SAMPLE_BYTES * (2 + int(self.bounds.scan_s / _SAMPLE_EVERY_S)),
            enough=enough,
        )

    def _rewind(self) -> None:
        os.ftruncate(self.target, 0)
        os.lseek(self.target, 0, os.SEEK_SET)


def _raw(frames: int) -> dict[str, Any]:
    """Raw pictures, as they come: the muxer's default would fill gaps with copies."""
    return {"format": "rawvideo", "vframes": frames, "fps_mode": "passthrough", "threads": 1}


def _grey(frames: Any) -> Any:
    return frames.filter("scale", w=SAMPLE_SIDE, h=SAMPLE_SIDE, flags="area").filter("format", "gray")


def _sample(grey: bytes | bytearray, number: int) -> bytes:
    return bytes(grey[number * SAMPLE_BYTES : (number + 1) * SAMPLE_BYTES])


def is_blank(grey: bytes) -> bool:
    """Whether a frame shows nothing, by the spread of luma in its `SAMPLE_BYTES` values: black and flat have none."""
    ordered = sorted(grey)
    return ordered[-1 - _TAIL] - ordered[_TAIL] < _MIN_SPREAD
