"""The examination as one call, and as the job that the sandbox runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import BY_NAME, MKV, MOV, MP4, WEBM, MediaFormat
from avion_media.domain.ranges import Range
from avion_media.media.bounds import VideoBounds
from avion_media.media.container.matroska import examine_matroska
from avion_media.media.container.mp4 import examine_mp4
from avion_media.media.container.plan import POSTER_SECONDS, VideoPlan
from avion_media.media.container.sparse import Missing, SparseFile

_READERS: dict[str, Callable[..., VideoPlan]] = {
    MP4.name: examine_mp4,
    MOV.name: examine_mp4,
    WEBM.name: examine_matroska,
    MKV.name: examine_matroska,
}


def examine_video(
    file: SparseFile, fmt: MediaFormat, *, poster_seconds: float = POSTER_SECONDS, bounds: VideoBounds | None = None
) -> VideoPlan:
    """Plan poster and scrub of a video whose content is of ``fmt``, from its container's structure alone.

    Raises `Missing` when more of the file is needed: fetch that and call again. Raises `Rejected` on whatever is wrong
    with the file: corrupt, no_video, external_reference, unsupported_type, bad_dimensions, too_many_pixels, too_long,
    too_large, decoder_limit. Hostile files raise nothing else; time and memory are bounded by ``bounds``.
    """
    reader = _READERS.get(fmt.name)
    if reader is None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, fmt.name)
    return reader(file, fmt, poster_seconds=poster_seconds, bounds=bounds or VideoBounds())


def examine_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """`examine_video` with plain values, for a confined process.

    Arguments: ``size_bytes``, ``present`` ([[offset, length], …]), ``format`` (its name), and optionally ``bounds``
    (fields of `VideoBounds`) and ``poster_seconds``. Files: the sparse file, at its full length, and where the plan
    goes (as JSON: its patches may be more than an answer holds). Returns ``{"missing": [[offset, length], …]}`` or
    ``{"plan_bytes": …}``; raises `Rejected`.
    """
    source, target = files
    present = [Range(offset, length) for offset, length in arguments["present"]]
    file = SparseFile(source, arguments["size_bytes"], present)
    bounds = VideoBounds(**arguments.get("bounds", {}))
    seconds = arguments.get("poster_seconds", POSTER_SECONDS)
    try:
        plan = examine_video(file, BY_NAME[arguments["format"]], poster_seconds=seconds, bounds=bounds)
    except Missing as missing:
        return {"missing": [[each.offset, each.length] for each in missing.ranges]}
    written = json.dumps(plan.to_json()).encode()
    with os.fdopen(os.dup(target), "wb") as out:
        out.write(written)
    return {"plan_bytes": len(written)}
