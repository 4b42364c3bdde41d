"""Private data inside coded video: messages that encoders, cameras and drones put between the pictures.

Encoders write their settings there, dashcams and drones positions. Nothing is coded again and nothing moves: what is
not known to be needed for showing the pictures is overwritten at the same length, by what the codec itself defines as
filler. Captions, HDR metadata and timing stay.

Pure functions of bytes, made to run in the sandbox. A sample changes only if it is coded as its track says, from its
beginning to its end: anything else may be a picture, of which nothing must be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from avion_media.media.formats.coded_data import motion_jpeg, nal, obu
from avion_media.media.formats.coded_data.changes import Change

__all__ = ["Change", "Coding", "changes_of_private", "changes_of_sample", "coding_of"]


class Coding(StrEnum):
    """How a track's samples are coded, as far as it matters here."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"
    MOTION_JPEG = "motion jpeg"


_BY_NAME = {
    **dict.fromkeys(("avc1", "avc2", "avc3", "avc4", "dva1", "dvav", "V_MPEG4/ISO/AVC"), Coding.H264),
    **dict.fromkeys(("hvc1", "hvc2", "hev1", "hev2", "lhv1", "lhe1", "dvh1", "dvhe", "V_MPEGH/ISO/HEVC"), Coding.HEVC),
    **dict.fromkeys(("av01", "dav1", "V_AV1"), Coding.AV1),
    **dict.fromkeys(("jpeg", "mjpa", "mjpg", "AVDJ", "V_MJPEG"), Coding.MOTION_JPEG),
}


def coding_of(name: str) -> Coding | None:
    """By the name of a sample entry in MP4, or of a codec in Matroska; None where samples are left as they are."""
    return _BY_NAME.get(name)


def changes_of_sample(coding: Coding, private: bytes, sample: bytes) -> Iterator[Change]:
    """What to overwrite in one sample (offset in it, new bytes): one change a message, in order, without overlaps.

    ``private`` is the codec's configuration: ``avcC``, ``hvcC`` or ``av1C``, or empty.
    """
    if coding is Coding.AV1:
        return obu.changes_of_sample(sample)
    if coding is Coding.MOTION_JPEG:
        return motion_jpeg.changes(sample)
    return nal.changes_of_sample(sample, nal.length_bytes(private, hevc=coding is Coding.HEVC), coding is Coding.HEVC)


def changes_of_private(coding: Coding, private: bytes) -> Iterator[Change]:
    """What to overwrite in a codec's configuration."""
    if coding is Coding.AV1:
        return obu.changes_of_private(private)
    if coding is Coding.MOTION_JPEG:
        return iter(())
    return nal.changes_of_private(private, hevc=coding is Coding.HEVC)
