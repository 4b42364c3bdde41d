"""The poster of a video: one frame as it would be displayed, decoded by libav (PyAV).

libav only reverses the matrix (luma and chroma) and the range. Transfer and primaries of HDR and of a wide gamut stay:
`colour` converts them as it does those of stills, so that the same light has the same value in both.
Other colours are not converted: browsers show BT.709 code values as if they were sRGB, and a poster must look like its
video. Colours are code points of ITU-T H.273, as in libav. The alpha of a WebM is not decoded: its posters are opaque.
"""

from __future__ import annotations

import gc
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Final, cast

import av
import av.logging
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from mediascrub import Format, ScrubCode, ScrubError
from mediascrub.bounds import VideoBounds, shown_size
from mediascrub.picture import HLG, PQ, UPRIGHT, CodePoints, turned_size
from mediascrub.ranges import Range
from mediathumbs.damage import judging_damage
from mediathumbs.libav import graph_for, rgb_of, without_damage
from mediathumbs.pictures import thumbnails_of_frame
from mediathumbs.results import Poster, ThumbnailSize, Webp, check_wanted, fit_within

_DEMUXERS: Final = {Format.MP4: "mov", Format.MOV: "mov", Format.WEBM: "matroska", Format.MKV: "matroska"}
# libav's decoders of the codecs of phones, browsers and cameras (libdav1d is AV1). Sound is not decoded for a poster.
_DECODERS: Final = ("h264", "hevc", "libdav1d", "vp8", "vp9", "mpeg4", "h263", "mjpeg", "prores")
_SAMPLE_EVERY_S: Final = 0.25
_SAMPLE_SIDE: Final = 32
_TAIL: Final = _SAMPLE_SIDE**2 // 50  # 2 % at each end: a frame with only a logo or a channel's name on black is blank
_MIN_SPREAD: Final = 24  # of 255; film grain and coding noise on black stay below 10 once scaled down
_MAX_DETAIL: Final = 300

_BT709, _BT2020 = 1, 9
_HDR_TRANSFERS: Final = (PQ, HLG)
_WIDE_PRIMARIES: Final = (9, 11, 12)  # BT.2020, DCI-P3, Display P3
_MATRICES: Final = {1: "bt709", 4: "fcc", 5: "smpte170m", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNSPECIFIED: Final = 2
_HD_HEIGHT: Final = 720  # if the matrix is not stated, browsers assume BT.601 for smaller video and BT.709 for larger
_SCALING: Final = "bicubic+accurate_rnd+full_chroma_int"
_WITHOUT_A_TURN: Final = {(True, True): UPRIGHT, (False, True): 2, (False, False): 3, (True, False): 4}
_WITH_A_TURN: Final = {(True, True): 5, (True, False): 6, (False, False): 7, (False, True): 8}


def coded_pixels(fd: int, fmt: Format, stream: str, bounds: VideoBounds) -> int:
    """Return how many pixels a coded frame of a video has, which says how much memory `make_poster` needs.

    0 where only a frame says it (H.263 and its kin). The arguments and the errors are those of `make_poster`.
    """
    with judging_damage():
        return Video(fd, fmt, stream, bounds).pixels


def make_poster(
    fd: int,
    fmt: Format,
    stream: str,
    sizes: Sequence[ThumbnailSize],
    *,
    bounds: VideoBounds,
    scan_s: float = 10.0,
    key_frame: Range | None = None,
    quality: int = 80,
    webp: Webp = "off",
) -> Poster:
    """Make thumbnails of the first frame of a video that is not blank, or of its first frame if all are blank.

    ``fd`` is the video, a file of ``fmt``, and ``stream`` that of mediascrub's `MoviePlan`. The first ``scan_s``
    seconds are searched, and then ``key_frame``, where one lies. The file can be sparse beyond its index and what is
    searched. ``sizes``, ``quality`` and ``webp``: see `make_thumbnails`.

    Raises `ScrubError`: NO_VIDEO (attached pictures do not count), UNSUPPORTED (codec), the codes of
    `VideoBounds.check_size`, and CORRUPT if no frame decodes, or the first key picture only with errors; MemoryError;
    and ValueError as `make_thumbnails`, or for a format that is no video.
    """
    check_wanted(fmt, _DEMUXERS, sizes, quality)
    with judging_damage(), av.logging.Capture() as messages:
        opened = partial(Video, fd, fmt, stream, bounds)
        longest_edge = max(size.longest_edge for size in sizes)
        search = partial(_shown, opened, longest_edge, scan_s, key_frame, messages)
        behind = found = None
        with suppress(MemoryError):  # the first frame alone needs less, and it is a poster
            found = search()
        if blank := found is None:
            behind = opened().key_frame_behind(scan_s)
            gc.collect()  # the decoder of the search, and its frames
            found = search(blank=True)
        assert found is not None
        thumbnails = thumbnails_of_frame(found.rgb, sizes, quality, webp, found.colour, found.orientation)
    return Poster(thumbnails, *found.displayed_size, blank, behind)


class Video:
    """The video stream that a plan calls ``stream``, from the start of the file ``fd``, or its key pictures."""

    def __init__(self, fd: int, fmt: Format, stream: str, bounds: VideoBounds, keys_only: bool = False) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        options = {"codec_whitelist": ",".join(_DECODERS), "probesize": "32", "analyzeduration": "0"}
        file = open(fd, "rb", buffering=0, closefd=False)  # noqa: SIM115 - until the process ends
        self._fd = fd
        self._container = av.open(file, "r", format=_DEMUXERS[fmt], options=options, metadata_errors="replace")
        self._stream = _stream_of(self._container, stream)
        self._bounds = bounds
        if self._stream.codec_context is None or self._stream.codec_context.name not in _DECODERS:
            raise ScrubError(ScrubCode.UNSUPPORTED, "video codec")
        self._decoder = self._stream.codec_context
        if self._decoder.width:  # of H.263 and its kin only a frame has it
            bounds.check_size(self._decoder.width, self._decoder.height, self.sample_aspect)
        self.pixels = self._decoder.width * self._decoder.height
        """Pixels of one coded frame."""
        self._decoder.thread_count = 1  # each thread has frames of its own, and one frame gains nothing from threads
        # Frames can be larger than the container says, and cropped at any column.
        self._decoder.options = {"max_pixels": str(bounds.max_pixels), "flags": "+unaligned"}
        self._keys_only = keys_only
        if keys_only:
            self._decoder.skip_frame = "NONKEY"

    @property
    def sample_aspect(self) -> Fraction:
        """Width of a pixel over its height."""
        return self._stream.sample_aspect_ratio or self._decoder.sample_aspect_ratio or Fraction(1)

    def key_frame_behind(self, seconds: float) -> Range | None:
        """Return where the first key frame behind the first ``seconds`` lies; None if no index says it.

        A fragmented video or one in Matroska has no index of frames.
        """
        entries, time_base = self._stream.index_entries, self._stream.time_base
        if not entries or not time_base:
            return None
        end = entries[0].timestamp + math.ceil(seconds / time_base)
        number = entries.search_timestamp(end, backward=False)
        if number < 0 or not 0 < entries[number].size <= self._bounds.max_poster_bytes:
            return None
        return Range(entries[number].pos, entries[number].size)

    def alone(self, key_frame: Range) -> Iterator[VideoFrame]:
        """Decode one coded frame, which needs no other, after all that was decoded before."""
        self._decoder.flush_buffers()
        packet = cast("av.Packet[VideoStream]", av.Packet(os.pread(self._fd, key_frame.length, key_frame.offset)))
        for frame in _deinterlaced(chain(self._decoded(packet), self._decoded(None))):
            self._bounds.check_size(frame.width, frame.height, self.sample_aspect)
            yield frame

    def samples(self, seconds: float) -> Iterator[VideoFrame]:
        """Decode forward. Yield the first frame of the first ``seconds``, and then one every quarter of a second."""
        previous = -math.inf
        for frame in _deinterlaced(self.frames(seconds)):
            at = 0.0 if frame.pts is None else frame.time
            if at - previous >= _SAMPLE_EVERY_S:
                self._bounds.check_size(frame.width, frame.height, self.sample_aspect)
                previous = at
                yield frame
            del frame  # else it is held while the next one is decoded

    def frames(self, seconds: float) -> Iterator[VideoFrame]:
        """Yield all frames that decode. Nothing behind the first ``seconds`` is decoded: it can be a hole."""
        end: float | None = None
        with without_damage():  # a container can be cut; what was read before counts
            for packet in self._container.demux(self._stream):
                ticks = packet.pts if packet.dts is None else packet.dts
                if ticks is not None:
                    at = float(ticks * packet.time_base)
                    end = max(0.0, at) + seconds if end is None else end  # below 0: needed to decode what is shown at 0
                    if at >= end:
                        break
                if packet.size and (packet.is_keyframe or not self._keys_only):
                    yield from self._decoded(packet)
        yield from self._decoded(None)

    def _decoded(self, packet: av.Packet[VideoStream] | None) -> Iterator[VideoFrame]:
        """Yield what the decoder returns for a packet, or at the end (None)."""
        with without_damage():
            for frame in self._decoder.decode(packet):
                frame.time_base = self._stream.time_base  # PyAV takes it from the packet
                yield frame


@dataclass(frozen=True, slots=True)
class _Shown:
    """A frame in ``colour``, not rotated yet; and the size of the video as displayed."""

    rgb: Image.Image
    displayed_size: tuple[int, int]
    orientation: int
    colour: CodePoints | None


def _shown(
    opened: Callable[..., Video],
    longest_edge: int,
    scan_s: float,
    key_frame: Range | None,
    messages: Sequence[tuple[int, str, str]],
    *,
    blank: bool = False,
) -> _Shown | None:
    """Return the first sample of the video that is not blank, or with ``blank`` the first one; None if all are blank.

    The key frame is the last sample.

    A search holds no frame but the present one, because a frame of 8K takes 100 MB: to return the first one after all,
    it is decoded again.
    """
    former = len(messages)
    video = opened()
    samples = video.samples(scan_s)
    frame = next(samples, None)
    # A video that was cut begins with pictures that depend on lost ones, and later ones depend on key pictures.
    if frame is not None and (frame.is_corrupt or any(name in _DECODERS for _, name, _ in messages[former:])):
        video = opened(keys_only=True)
        samples = video.samples(scan_s)
        frame = next(samples, None)
    if frame is None or frame.is_corrupt:
        texts = [text.strip() for _, _, text in messages if "not on whitelist" not in text]
        raise ScrubError(ScrubCode.CORRUPT, "; ".join(texts)[:_MAX_DETAIL] or "no frame decodes")
    if key_frame is not None:
        samples = chain(samples, video.alone(key_frame))
    while frame is not None:
        if not frame.is_corrupt:
            size = shown_size(frame.width, frame.height, video.sample_aspect)
            rgb = _rgb(frame, fit_within(*size, longest_edge))
            if blank or not is_blank(rgb):
                # Not for each sample: a frame whose side data was read lives until the cyclic collector runs.
                orientation = orientation_of_frame(frame)
                return _Shown(rgb, turned_size(size, orientation), orientation, _colour_of(frame))
        frame = None
        frame = next(samples, None)
    return None


def _stream_of(container: InputContainer, name: str) -> VideoStream:
    """Return the stream that a plan calls ``i:id`` or ``V:number of the video``."""
    kind, _, number = name.partition(":")
    videos = [each for each in container.streams.video if Disposition.attached_pic not in each.disposition]
    found = [each for each in videos if each.id == int(number)] if kind == "i" else videos[int(number) :]
    if not found:
        raise ScrubError(ScrubCode.NO_VIDEO, f"{name} is no video")
    return found[0]


def _deinterlaced(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Yield the frames; if the first one has two fields, through a filter that needs the next frame for each."""
    graph: Graph | None = None
    began = False
    for frame in frames:
        if not began and frame.interlaced_frame:
            graph = graph_for(frame, ("bwdif", "mode=send_frame:deint=interlaced"))
        began = True
        if graph is None:
            yield frame
        else:
            yield from _pulled(graph, frame)
        del frame
    if graph is not None:
        yield from _pulled(graph, None)


def _pulled(graph: Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    """Yield what the filters return for a frame, or at the end (None)."""
    graph.vpush(frame)
    with suppress(BlockingIOError, EOFError):
        while True:
            yield graph.vpull()


def _rgb(frame: VideoFrame, size: tuple[int, int]) -> Image.Image:
    """Convert the coded picture to RGB of this size."""
    scaling = f"w={size[0]}:h={size[1]}:flags={_SCALING}"
    if not frame.format.is_rgb:
        guessed = "bt709" if frame.height >= _HD_HEIGHT else "smpte170m"
        if frame.color_trc in _HDR_TRANSFERS and frame.color_primaries in (_BT2020, _UNSPECIFIED):
            guessed = "bt2020"
        scaling += f":in_color_matrix={_MATRICES.get(frame.colorspace, guessed)}"
    return rgb_of(frame, ("scale", scaling), ("format", "gbrp"))


def _colour_of(frame: VideoFrame) -> CodePoints | None:
    """Return the colours of a frame's RGB values; None if sRGB. HDR without stated primaries is BT.2020."""
    transfer = frame.color_trc if frame.color_trc in _HDR_TRANSFERS else _BT709
    unsaid = _BT709 if _BT709 in (frame.color_primaries, transfer) else _BT2020
    primaries = frame.color_primaries if frame.color_primaries in _WIDE_PRIMARIES else unsaid
    return None if primaries == transfer == _BT709 else CodePoints(primaries, transfer)


def orientation_of_frame(frame: VideoFrame) -> int:
    """Return the orientation (as in Exif) that the container or the coded video states."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # there is also something that PyAV has no name for
        return {-90: 6, 90: 8, 180: 3, -180: 3}.get(frame.rotation, UPRIGHT)
    return UPRIGHT if matrix is None else orientation_of(struct.unpack("<9i", cast("bytes", matrix)))


def orientation_of(matrix: Sequence[int]) -> int:
    """Return the Exif orientation of a display matrix (nine numbers, by row), rounded to quarter turns."""
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a * d - b * c == 0:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = ax, y' = dy
        return _WITHOUT_A_TURN[a > 0, d > 0]
    return _WITH_A_TURN[b > 0, c > 0]  # x' = cy, y' = bx


def is_blank(frame: Image.Image) -> bool:
    """Return whether a frame shows nothing: the grey values of a small copy have nearly no spread."""
    small = frame.resize((_SAMPLE_SIDE, _SAMPLE_SIDE), Image.Resampling.BOX).convert("L")
    ordered = sorted(small.tobytes())
    return ordered[-1 - _TAIL] - ordered[_TAIL] < _MIN_SPREAD
