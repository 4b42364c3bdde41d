"""Posters: one frame of an untrusted video, as it would be displayed, made by ffmpeg in the sandbox.

`probe_video` returns the facts of ffprobe, `extract_poster` writes the first frame that is not blank as raw RGB, and
`colour_of` returns its colours. The frame is rotated later, with its thumbnails.
"""

from avion_media.media.poster.ffmpeg import PosterBounds
from avion_media.media.poster.frame import Poster, colour_of, extract_poster
from avion_media.media.poster.probe import VideoProbe, probe_video

__all__ = ["Poster", "PosterBounds", "VideoProbe", "colour_of", "extract_poster", "probe_video"]
