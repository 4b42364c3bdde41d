"""Removes private data from photos, videos and audio without encoding them again.

All functions are synchronous, and read untrusted bytes within bounds of time and memory. No imaging library is needed.
Pictures are written again (`read_picture`); videos, with their audio, are patched in place (`plan_movie`).
"""

from __future__ import annotations

from mediascrub.bounds import Bounds, PictureBounds, VideoBounds
from mediascrub.credentials import Credentials
from mediascrub.errors import ScrubCode, ScrubError
from mediascrub.files import scrub_file
from mediascrub.formats import Format, MediaKind
from mediascrub.movie import POSTER_S, MoviePlan
from mediascrub.picture import Chromaticities, CodePoints, Colour, IccProfile, Peek, Picture
from mediascrub.provenance import Provenance, labelled, read_provenance
from mediascrub.ranges import Patch, Range
from mediascrub.readers import PEEK_BYTES, peek, plan_movie, read_picture
from mediascrub.sniffing import HEAD_BYTES, Sniffed, sniff
from mediascrub.sparse import Missing, SparseFile

__all__ = [
    "HEAD_BYTES",
    "PEEK_BYTES",
    "POSTER_S",
    "Bounds",
    "Chromaticities",
    "CodePoints",
    "Colour",
    "Credentials",
    "Format",
    "IccProfile",
    "MediaKind",
    "Missing",
    "MoviePlan",
    "Patch",
    "Peek",
    "Picture",
    "PictureBounds",
    "Provenance",
    "Range",
    "ScrubCode",
    "ScrubError",
    "Sniffed",
    "SparseFile",
    "VideoBounds",
    "labelled",
    "peek",
    "plan_movie",
    "read_picture",
    "read_provenance",
    "scrub_file",
    "sniff",
]
