"""The job that plans poster and scrub of a video, which runs inside the sandbox, and the JSON form of its plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from avion_media.backends.files import write_at
from avion_media.common.media import MAX_MANIFEST_BYTES
from mediascrub import (
    Credentials,
    Format,
    Missing,
    MoviePlan,
    Patch,
    Provenance,
    Range,
    SparseFile,
    VideoBounds,
    plan_movie,
    read_provenance,
)
from mediascrub.ranges import missing, pieces, within


def plan_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `plan_movie` with plain values.

    Arguments: size_bytes, present ([[offset, length], …]), format (its name), bounds (fields of `VideoBounds`),
    poster_s, max_plan_bytes, keep_credentials. Files: the sparse file at its full length; the target of the plan
    (as JSON, because its patches may exceed a result); optionally the complete file again, open for writing. Returns
    ``{"missing": …}``, ranges as in present, or ``{"plan_bytes": …}``. A plan that is too long gives ``{"scattered":
    its patches}``; with the third file, a plan without patches, because they are applied there, except those that
    remove content credentials to keep.
    """
    source, target, *scrubbed = files
    file = SparseFile(source, arguments["size_bytes"], [Range(*each) for each in arguments["present"]])
    bounds = VideoBounds(**arguments["bounds"])
    try:
        plan = plan_movie(file, Format(arguments["format"]), poster_s=arguments["poster_s"], bounds=bounds)
        plan = replace(plan, provenance=_provenance_of(plan, file))
    except Missing as lacking:
        return {"missing": lacking.ranges}
    if _json_bytes(plan) > arguments["max_plan_bytes"]:
        if not scrubbed:
            return {"scattered": len(plan.patches)}
        kept = plan.credentials.carriers if arguments["keep_credentials"] and plan.credentials else ()
        for offset, data in pieces(outside(plan.patches, kept)):
            write_at(scrubbed[0], data, offset)
        plan = replace(plan, patches=tuple(within(plan.patches, kept)))
    written = json.dumps(plan_to_json(plan)).encode()
    write_at(target, written, 0)
    return {"plan_bytes": len(written)}


def _provenance_of(plan: MoviePlan, file: SparseFile) -> Provenance:
    """Return what the manifest of a file says. Raises `Missing` if it is not here."""
    credentials = plan.credentials
    if credentials is None or credentials.size_bytes > MAX_MANIFEST_BYTES:
        return Provenance()
    parts = [file.read(part.offset, part.length) for part in credentials.manifest]
    return read_provenance(b"".join(parts), b"")


def outside(patches: Sequence[Patch], ranges: Sequence[Range]) -> Sequence[Patch]:
    """Return what of the patches lies outside of ``ranges``. Both are sorted and apart from each other."""
    if not patches or not ranges:
        return patches
    return tuple(within(patches, missing([Range(0, patches[-1].end)], ranges)))


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
    credentials = None
    if (found := values["credentials"]) is not None:
        manifest, carriers = (tuple(Range(*each) for each in found[name]) for name in ("manifest", "carriers"))
        credentials = Credentials(manifest, carriers, alone=found["alone"] is True)
    own: dict[str, Any] = {
        "format": Format(values["format"]),
        "poster_ranges": ranges,
        "patches": patches,
        "credentials": credentials,
    }
    own["provenance"] = Provenance(**values["provenance"])
    return MoviePlan(**values | own)
