"""The job that plans poster and scrub of a video, which runs inside the sandbox, and the JSON form of its plan."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from avion_media.backends.files import write_at
from avion_media.media.scrubber import rejecting
from mediascrub import Format, Missing, MoviePlan, Patch, Range, SparseFile, VideoBounds, plan_movie
from mediascrub.ranges import pieces


@rejecting()
def plan_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `plan_movie` with plain values.

    Arguments: size_bytes, present ([[offset, length], …]), format (its name), bounds (fields of `VideoBounds`),
    poster_seconds, max_plan_bytes. Files: the sparse file at its full length; the target of the plan (as JSON, because
    its patches may exceed a result); optionally the complete file again, open for writing. Returns ``{"missing": …}``,
    ranges as in present, or ``{"plan_bytes": …}``. A plan that is too long gives ``{"scattered": its patches}``;
    with the third file, a plan without patches, because they are applied there.
    """
    source, target, *scrubbed = files
    file = SparseFile(source, arguments["size_bytes"], [Range(*each) for each in arguments["present"]])
    bounds = VideoBounds(**arguments["bounds"])
    try:
        plan = plan_movie(file, Format(arguments["format"]), poster_seconds=arguments["poster_seconds"], bounds=bounds)
    except Missing as missing:
        return {"missing": missing.ranges}
    if _json_bytes(plan) > arguments["max_plan_bytes"]:
        if not scrubbed:
            return {"scattered": len(plan.patches)}
        for offset, data in pieces(plan.patches):
            write_at(scrubbed[0], data, offset)
        plan = replace(plan, patches=())
    written = json.dumps(plan_to_json(plan)).encode()
    write_at(target, written, 0)
    return {"plan_bytes": len(written)}


def _json_bytes(plan: MoviePlan) -> int:
    """Return the approximate length of the plan as text, in bytes, which is that of the patches."""
    return sum(24 + 2 * len(each.data) for each in plan.patches)


def plan_to_json(plan: MoviePlan) -> dict[str, Any]:
    """Return the plan as JSON values, for `plan_from_json`."""
    patches = [[each.offset, each.length, each.data.hex()] for each in plan.patches]
    return asdict(plan) | {"patches": patches}


def plan_from_json(values: dict[str, Any]) -> MoviePlan:
    """Read the result of `plan_to_json`. Raises ValueError, KeyError or TypeError on anything else."""
    ranges = tuple(Range(offset, length) for offset, length in values["poster_ranges"])
    patches = tuple(Patch(offset, length, bytes.fromhex(data)) for offset, length, data in values["patches"])
    return MoviePlan(**values | {"format": Format(values["format"]), "poster_ranges": ranges, "patches": patches})
