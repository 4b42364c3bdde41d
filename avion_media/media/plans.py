"""The job that plans poster and scrub of a video. It runs inside the sandbox."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from avion_media.backends.files import write_at
from avion_media.common.formats import BY_NAME
from mediascrub import plan_movie
from mediascrub.bounds import VideoBounds
from mediascrub.ranges import Range, pieces
from mediascrub.sparse import Missing, SparseFile


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
    fmt = BY_NAME[arguments["format"]]
    try:
        plan = plan_movie(file, fmt, poster_seconds=arguments["poster_seconds"], bounds=bounds)
    except Missing as missing:
        return {"missing": missing.ranges}
    if plan.json_bytes > arguments["max_plan_bytes"]:
        if not scrubbed:
            return {"scattered": len(plan.patches)}
        for offset, data in pieces(plan.patches):
            write_at(scrubbed[0], data, offset)
        plan = replace(plan, patches=())
    written = json.dumps(plan.to_json()).encode()
    write_at(target, written, 0)
    return {"plan_bytes": len(written)}
