"""Posters: one frame of a stranger's video, as it would be displayed, by ffmpeg in the sandbox.

`probe_video` asks ffprobe what the video is, `extract_poster` makes raw RGB of the first frame that is not blank, and
`colour_of` says in which colours. It is turned with its thumbnails.
"""

from avion_media.media.poster.ffmpeg import PosterBounds
from avion_media.media.poster.frame import Poster, colour_of, extract_poster
from avion_media.media.poster.probe import VideoProbe, probe_video

__all__ = ["Poster", "PosterBounds", "VideoProbe", "colour_of", "extract_poster", "probe_video"]
