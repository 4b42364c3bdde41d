"""One frame of a video as raw RGB, by ffmpeg in the sandbox. ffmpeg-python only writes the argument lists.

ffmpeg only reverses the matrix (luma and chroma) and the range. Transfer and primaries of HDR and of a wide gamut stay:
`thumbnails.colour` converts them as it does those of stills, so that the same light has the same value in both.
Other colours are not converted: browsers show BT.709 code values as if they were sRGB, and a poster must look like its
video.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final

import ffmpeg

from avion_media.domain.formats import MediaFormat
from avion_media.domain.media import fit_within
from avion_media.files import read_only
from avion_media.media.formats.picture import CodePoints, turned_size
from avion_media.media.poster import DECODERS, INPUT_FD, URL, PosterBounds, complaint, input_options
from avion_media.media.poster.probe import VideoProbe
from avion_media.media.sandbox import Completed
from avion_media.media.sandbox.sandbox import Sandbox

_OUTPUT_FD: Final = 4
_BASE_MEMORY_BYTES: Final = 128 << 20
# Decoded frames in a decoder's memory: at most 16 references of a small picture, 6 of the largest that its level
# allows; 3 bytes a pixel (10 bit 4:2:0), one thread. Measured for the first frame: 8K HEVC needs less than 192 MiB.
_BYTES_PER_PIXEL: Final = 24
_SAMPLE_EVERY_S: Final = 0.25
# The first picture can be shown some time after the start of the file. Reading ends with it.
_FIRST_WITHIN_S: Final = 1.0
_SAMPLING: Final = f"isnan(prev_selected_t)+gte(t-prev_selected_t,{_SAMPLE_EVERY_S})"
SAMPLE_SIDE: Final = 32
SAMPLE_BYTES: Final = SAMPLE_SIDE * SAMPLE_SIDE

# Messages of a decoder about the video, not of a demuxer or about sound.
_COMPLAINT: Final = re.compile(rb"\[(?:%s) @" % DECODERS.replace(",", "|").encode())
_DAMAGE: Final = b"corrupt decoded frame"  # ffmpeg's words for damage
_KEYS_ONLY: Final = {"discard:v": "nokey", "skip_frame": "nokey"}  # by the demuxer if it can, else by the decoder
_TAIL: Final = SAMPLE_BYTES // 50  # 2 % at each end: a frame with only a logo or a channel's name on black is blank
_MIN_SPREAD: Final = 24  # of 255; film grain and coding noise on black stay below 10 once scaled down

# ffmpeg's words → ITU-T H.273's code points
_HDR_TRANSFERS: Final = {"smpte2084": 16, "arib-std-b67": 18}
_WIDE_PRIMARIES: Final = {"bt2020": 9, "smpte431": 11, "smpte432": 12}
_BT709, _BT2020 = 1, 9
# ffmpeg's words → swscale's
_MATRICES: Final = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "smpte170m",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
}
_HD_HEIGHT: Final = 720  # if the matrix is not stated, browsers assume BT.601 for smaller video and BT.709 for larger
_SCALING: Final = "bicubic+accurate_rnd+full_chroma_int"
_RGB: Final = ("gbr", "rgb", "bgr", "0rgb", "argb", "abgr")


@dataclass(frozen=True, slots=True)
class Poster:
    """The written frame. ``blank`` if all searched frames are blank."""

    width: int
    height: int
    blank: bool


def colour_of(probe: VideoProbe) -> CodePoints | None:
    """Return the colours of a frame's RGB values; None if sRGB. HDR without stated primaries is BT.2020."""
    transfer = _HDR_TRANSFERS.get(probe.transfer, _BT709)
    unsaid = _BT709 if probe.primaries == "bt709" or transfer == _BT709 else _BT2020
    primaries = _WIDE_PRIMARIES.get(probe.primaries, unsaid)
    return None if primaries == transfer == _BT709 else CodePoints(primaries, transfer)


async def extract_poster(
    sandbox: Sandbox,
    fd: int,
    fmt: MediaFormat,
    probe: VideoProbe,
    longest_edge: int,
    *,
    output_fd: int,
    bounds: PosterBounds,
) -> Poster:
    """Write the first frame that is not blank of the video that ``probe`` describes.

    The frame is at most ``longest_edge`` pixels long, in the colours of `colour_of`, and not rotated yet. It is written
    to the start of ``output_fd`` as RGB with 3 bytes a pixel, rows from the top, without padding. If all searched
    frames are blank, the first one is written.

    Decodes forward from the start and never seeks by time, so ``fd`` can be sparse beyond the index and the first
    seconds.

    Raises `Rejected`: CORRUPT if no frame decodes, or the first key picture only with errors, and the reasons of the
    sandbox; and `Unavailable`. After a cancel nothing runs, and the content of ``output_fd`` is undefined.
    """
    width, height = turned_size(fit_within(probe.width, probe.height, longest_edge), probe.orientation)
    with read_only(fd) as source:
        run = _Run(sandbox, source, output_fd, fmt, probe, (width, height), bounds)
        return Poster(width, height, blank=await run.write_first_not_blank())


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

    async def write_first_not_blank(self) -> bool:
        """Write the frame to the target. Return whether it, and all others that were searched, are blank.

        Nearly always the first frame is not blank, which takes one run. Otherwise a second run searches samples until
        one is not blank, and a third run decodes up to that one again, because blank frames are cheap to decode.
        """
        if not is_blank(await self._first()):
            return False
        chosen = await self._search()
        if chosen:
            await self._frame(self._sampled(chosen))
        return not chosen

    async def _first(self) -> bytes:
        """Write the first frame. If the decoder reports damage, write the first key picture, which must be undamaged.

        A video that was cut begins with pictures that depend on lost ones. All later pictures depend on the key
        picture.
        """
        done = await self._frame(self._sampled(0))
        if _COMPLAINT.search(done.stderr):
            done = await self._frame(self._sampled(0, **_KEYS_ONLY, t=_FIRST_WITHIN_S), level="warning")
            if _DAMAGE in done.stderr:
                raise complaint(done.stderr)
        return done.stdout

    async def _frame(self, sampled: Any, level: str = "error") -> Completed:
        """Write the frame to the target, and return a small version of it in grey, to see whether it is blank."""
        frames = self._rgb(sampled).filter_multi_output("split")
        whole = ffmpeg.output(frames[0], URL, fd=_OUTPUT_FD, pix_fmt="rgb24", **_raw(1))
        small = ffmpeg.output(_grey(frames[1]), "pipe:1", pix_fmt="gray", **_raw(1))
        os.ftruncate(self.target, 0)
        os.lseek(self.target, 0, os.SEEK_SET)
        done = await self._ffmpeg(ffmpeg.merge_outputs(whole, small), files={_OUTPUT_FD: self.target}, level=level)
        written = os.fstat(self.target).st_size
        if done.returncode != 0 or written != self.frame_bytes or len(done.stdout) != SAMPLE_BYTES:
            raise complaint(done.stderr)
        return done

    async def _search(self) -> int:
        """Return the number of the first sample that is not blank; 0 if there is none."""
        samples = 1 + int(self.bounds.scan_s / _SAMPLE_EVERY_S)
        small = ffmpeg.output(_grey(self._rgb(self._sampled(None))), "pipe:1", pix_fmt="gray", **_raw(samples))

        def found(grey: bytearray) -> bool:
            last = len(grey) // SAMPLE_BYTES
            return any(not is_blank(_sample(grey, number)) for number in range(max(1, last - 64), last))

        done = await self._ffmpeg(small, files={}, enough=found)
        count = len(done.stdout) // SAMPLE_BYTES
        return next((number for number in range(1, count) if not is_blank(_sample(done.stdout, number))), 0)

    def _sampled(self, number: int | None, **more: Any) -> Any:
        """Return the video's frames: all samples, or only sample ``number``. ``more`` are options of the input."""
        options = input_options(self.fmt) | {
            "codec_whitelist": DECODERS,
            # ffprobe has identified the streams already, so ffmpeg does not have to decode frames for that.
            "probesize": 32,
            "analyzeduration": 0,
            "max_pixels": self.bounds.video.max_pixels,  # in case frames are larger than in the result of the probe
            # A sparse file ends here: the bytes after it can be the first half of a picture.
            "t": self.bounds.scan_s + (_FIRST_WITHIN_S if number == 0 else 0),
        }
        frames = ffmpeg.input(URL, noautorotate=None, **options | more)[self.probe.stream]
        if self.probe.interlaced:
            frames = frames.filter("bwdif", mode="send_frame", deint="interlaced")  # needs the next frame
        sampled = frames.filter("select", _SAMPLING)
        return sampled if number is None else sampled.filter("select", f"eq(n,{number})")

    def _rgb(self, frames: Any) -> Any:
        """Convert the coded picture to RGB of the poster's size."""
        options: dict[str, str | int] = {"w": self.size[0], "h": self.size[1], "flags": _SCALING}
        probe = self.probe
        if not probe.pix_fmt.startswith(_RGB):
            guessed = "bt709" if probe.coded_height >= _HD_HEIGHT else "smpte170m"
            if probe.transfer in _HDR_TRANSFERS and probe.primaries in {"bt2020", ""}:
                guessed = "bt2020"
            options["in_color_matrix"] = _MATRICES.get(probe.matrix, guessed)
        return frames.filter("scale", **options).filter("format", "gbrp").filter("setsar", 1)

    async def _ffmpeg(
        self, output: Any, *, files: dict[int, int], enough: Any = None, level: str = "error"
    ) -> Completed:
        arguments = output.global_args(
            "-nostdin", "-v", level, "-filter_threads", "1", "-filter_complex_threads", "1"
        ).compile()
        os.lseek(self.source, 0, os.SEEK_SET)
        memory_bytes = _BASE_MEMORY_BYTES + _BYTES_PER_PIXEL * self.probe.coded_pixels
        return await self.sandbox.execute(
            arguments,
            files={INPUT_FD: self.source, **files},
            limits=self.bounds.run.for_task(memory_bytes, self.frame_bytes),
            max_stdout_bytes=SAMPLE_BYTES * (2 + int(self.bounds.scan_s / _SAMPLE_EVERY_S)),
            enough=enough,
        )


def _raw(frames: int) -> dict[str, Any]:
    """Return options for raw pictures in order. By default the muxer would fill gaps with copies."""
    return {"format": "rawvideo", "vframes": frames, "fps_mode": "passthrough", "threads": 1}


def _grey(frames: Any) -> Any:
    return frames.filter("scale", w=SAMPLE_SIDE, h=SAMPLE_SIDE, flags="area").filter("format", "gray")


def _sample(grey: bytes | bytearray, number: int) -> bytes:
    return bytes(grey[number * SAMPLE_BYTES : (number + 1) * SAMPLE_BYTES])


def is_blank(grey: bytes) -> bool:
    """Return whether a frame shows nothing: its `SAMPLE_BYTES` values of luma have nearly no spread."""
    ordered = sorted(grey)
    return ordered[-1 - _TAIL] - ordered[_TAIL] < _MIN_SPREAD
