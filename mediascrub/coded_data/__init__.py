"""Private data inside coded video: messages that encoders, cameras and drones put between the pictures.

Encoders write their settings there, dashcams and drones positions. Nothing is coded again and nothing moves. Messages
that are not known to be needed for the pictures are overwritten at the same length with the filler that the codec
defines. Captions, HDR metadata and timing stay. A sample changes only if all of it is coded as its track says:
otherwise it might be a picture, of which nothing must be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from mediascrub.coded_data import motion_jpeg, nal, obu
from mediascrub.coded_data.changes import Change

__all__ = ["CODINGS", "Change", "Coding", "motion_jpeg", "nal", "obu"]


class Coding(Protocol):
    """A coding of tracks that is treated here: a module or an object with these two functions."""

    def changes_of_sample(self, private: bytes, sample: bytes) -> Iterator[Change]:
        """Return the changes of one sample, in order, without overlaps. ``private`` is the configuration, or empty."""

    def changes_of_private(self, private: bytes) -> Iterator[Change]:
        """Return the changes of a codec's configuration."""


# By the sample entries of MP4 and the codecs of Matroska; None if no private messages of it are known. A video of any
# other name is refused, or dropped beside another one, because libav decodes more names than are scrubbed.
CODINGS: dict[str, Coding | None] = {
    **dict.fromkeys(("avc1", "avc2", "avc3", "avc4", "dva1", "dvav", "V_MPEG4/ISO/AVC"), nal.H264),
    **dict.fromkeys(("hvc1", "hvc2", "hev1", "hev2", "dvh1", "dvhe", "V_MPEGH/ISO/HEVC"), nal.HEVC),
    **dict.fromkeys(("av01", "dav1", "V_AV1"), obu),
    **dict.fromkeys(("jpeg", "mjpa", "mjpg", "AVDJ", "V_MJPEG"), motion_jpeg),
    **dict.fromkeys(("mp4v", "s263", "h263", "vp08", "vp09", "apch", "apcn", "apcs", "apco", "ap4h", "ap4x")),
    **dict.fromkeys(("V_MPEG4/ISO/SP", "V_MPEG4/ISO/ASP", "V_MPEG4/ISO/AP", "V_VP8", "V_VP9", "V_PRORES")),
}
