"""Posters: one frame of a stranger's video, as it would be displayed, by ffmpeg in the sandbox.

`probe_video` asks ffprobe what the video is, `extract_poster` makes raw RGB of the first frame that is not blank.
"""

from avion_media.media.poster.ffmpeg import PosterBounds
from avion_media.media.poster.frame import extract_poster
from avion_media.media.poster.probe import Orientation, VideoProbe, probe_video

__all__ = ["Orientation", "PosterBounds", "VideoProbe", "extract_poster", "probe_video"]
