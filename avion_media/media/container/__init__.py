"""Reads video containers without decoding them: facts, the ranges a poster needs, and the scrub in place.

Pure and synchronous, made to run in the sandbox on hostile bytes, over a file of which only some ranges were fetched.
"""

from avion_media.media.container.job import examine_job, examine_video
from avion_media.media.container.plan import (
    POSTER_SECONDS,
    VideoPlan,
    plan_from_json,
)
from avion_media.media.container.sparse import Missing, SparseFile

__all__ = [
    "POSTER_SECONDS",
    "Missing",
    "SparseFile",
    "VideoPlan",
    "examine_job",
    "examine_video",
    "plan_from_json",
]
