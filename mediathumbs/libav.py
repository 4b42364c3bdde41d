"""libav (FFmpeg's libraries, by PyAV), with everything loaded that a sandboxed job might need, and quiet.

It takes 20 MiB, so only what needs it imports it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import av.filter
import av.logging
from av.video.frame import VideoFrame
from PIL import Image

av.logging.set_level(av.logging.ERROR)
for _module in pkgutil.walk_packages(av.__path__, "av."):  # a job can import none, and PyAV does so late
    if _module.name not in ("av.__main__", "av.datasets"):
        importlib.import_module(_module.name)


@contextmanager
def without_damage() -> Iterator[None]:
    """End the block at an error of libav, which has left a message, but not at a lack of memory."""
    try:
        yield
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def graph_for(frame: VideoFrame, *filters: tuple[str, str]) -> av.filter.Graph:
    """Return a graph of one filter (name, options) after the other, for frames like this."""
    graph = av.filter.Graph()
    graph.threads = 1
    time_base = frame.time_base or Fraction(1)
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base)
    graph.link_nodes(source, *(graph.add(name, options) for name, options in filters), graph.add("buffersink"))
    graph.configure()
    return graph


def filtered(frame: VideoFrame, *filters: tuple[str, str]) -> VideoFrame:
    """Return what these filters make of one frame."""
    graph = graph_for(frame, *filters)
    graph.vpush(frame)
    return graph.vpull()


def rgb_of(frame: VideoFrame, *filters: tuple[str, str]) -> Image.Image:
    """Return what these filters make of one frame, as a picture of mode RGB."""
    rgb = filtered(frame, *filters, ("format", "rgb24"))
    (plane,) = rgb.planes
    return Image.frombytes("RGB", (rgb.width, rgb.height), bytes(plane), "raw", "RGB", plane.line_size)
