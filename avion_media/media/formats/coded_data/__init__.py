"""Private data inside coded video: messages that encoders, cameras and drones put between the pictures.

Encoders write their settings there, dashcams and drones positions. Nothing is coded again and nothing moves. Messages
that are not known to be needed for the pictures are overwritten at the same length with the filler that the codec
defines. Captions, HDR metadata and timing stay.

These are pure functions of bytes, made to run in the sandbox. A sample changes only if all of it is coded as its track
says. Otherwise it might be a picture, of which nothing must be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from avion_media.media.formats.coded_data import motion_jpeg, nal, obu
from avion_media.media.formats.coded_data.changes import Change

__all__ = ["Change", "Coding", "changes_of_private", "changes_of_sample", "coding_of"]


class Coding(StrEnum):
    """The codings of tracks that are treated differently here."""

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
    """Return the coding for a sample entry of MP4 or a codec of Matroska; None if its samples are not changed."""
    return _BY_NAME.get(name)


def changes_of_sample(coding: Coding, private: bytes, sample: bytes) -> Iterator[Change]:
    """Return the changes of one sample: (offset in it, new bytes), one for each message, in order, without overlaps.

    ``private`` is the codec's configuration: ``avcC``, ``hvcC`` or ``av1C``, or empty.
    """
    if coding is Coding.AV1:
        return obu.changes_of_sample(sample)
    if coding is Coding.MOTION_JPEG:
        return motion_jpeg.changes(sample)
    return (nal.HEVC if coding is Coding.HEVC else nal.H264).changes_of_sample(private, sample)


def changes_of_private(coding: Coding, private: bytes) -> Iterator[Change]:
    """Return the changes of a codec's configuration."""
    if coding is Coding.AV1:
        return obu.changes_of_private(private)
    if coding is Coding.MOTION_JPEG:
        return iter(())
    return (nal.HEVC if coding is Coding.HEVC else nal.H264).changes_of_private(private)
