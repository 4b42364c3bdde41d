"""Functions that run inside the sandbox, with JSON arguments and open files.

Everything that parses or decodes untrusted bytes is called from here, in a process without secrets or privileges.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import replace
from typing import Any

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import BY_NAME
from avion_media.domain.media import ThumbnailSize, thumbnail_names
from avion_media.domain.ranges import Range, pieces
from avion_media.files import write_at
from avion_media.media.bounds import PictureBounds, VideoBounds
from avion_media.media.formats import plan_movie, read_picture
from avion_media.media.formats.movie import POSTER_SECONDS
from avion_media.media.formats.sparse import Missing, SparseFile
from avion_media.media.thumbnails.make import Thumbnails, make_thumbnails


def picture_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Make the scrubbed original of one image, and thumbnails of the scrubbed file.

    Arguments: format (name), sizes ([name, longest edge]), quality, webp, bounds, granted_bytes (of memory). Files: the
    source, the target of the original, one file per size, and one more for each as WebP, which may stay empty. If more
    memory than granted may be needed, returns ``{"needed_bytes": …}`` and writes nothing.
    """
    source, original_file, *thumbnail_files = files
    bounds = PictureBounds(**arguments["bounds"])
    view = memoryview(mmap.mmap(source, 0, prot=mmap.PROT_READ))  # until the process ends
    picture = read_picture(view, BY_NAME[arguments["format"]], bounds)
    needed_bytes = picture.decode_bytes(len(view))
    if arguments["granted_bytes"] < min(needed_bytes, bounds.max_memory_bytes):
        return {"needed_bytes": needed_bytes}
    try:
        thumbnails = make_thumbnails(picture, sizes_of(arguments), arguments["quality"], arguments["webp"])
    except Rejected as error:
        # Not every decoder distinguishes lack of memory from damage.
        if error.reason is Reason.CORRUPT and arguments["granted_bytes"] < needed_bytes:
            raise Rejected(Reason.DECODER_LIMIT, error.detail) from error
        raise
    write_at(original_file, picture.original, 0)
    write_thumbnails(thumbnails, arguments, thumbnail_files)
    width, height = picture.displayed_size
    return {
        "width": width,
        "height": height,
        "animated": picture.frames > 1,
        "duration_s": picture.duration_s,
        "blurhash": thumbnails.blurhash,
        "size_bytes": len(picture.original),
        "sha256": hashlib.sha256(picture.original).hexdigest(),
    }


def plan_job(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Run `plan_movie` with plain values.

    Arguments: ``size_bytes``, ``present`` ([[offset, length], …]), ``format`` (its name), ``max_plan_bytes``, and
    optionally ``bounds`` (fields of `VideoBounds`) and ``poster_seconds``. Files: the sparse file at its full length;
    the target of the plan (as JSON, because its patches may exceed a result); optionally the complete file again, open
    for writing. Returns ``{"missing": [[offset, length], …]}`` or ``{"plan_bytes": …}``. For a plan that is too long it
    returns ``{"scattered": its patches}``, or with the third file a plan without patches, because they are applied
    there.
    """
    source, target, *scrubbed = files
    file = SparseFile(source, arguments["size_bytes"], [Range(*each) for each in arguments["present"]])
    bounds = VideoBounds(**arguments.get("bounds", {}))
    seconds = arguments.get("poster_seconds", POSTER_SECONDS)
    try:
        plan = plan_movie(file, BY_NAME[arguments["format"]], poster_seconds=seconds, bounds=bounds)
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


def sizes_of(arguments: dict[str, Any]) -> list[ThumbnailSize]:
    """Return the sizes in a job's arguments."""
    return [ThumbnailSize(name, edge) for name, edge in arguments["sizes"]]


def write_thumbnails(thumbnails: Thumbnails, arguments: dict[str, Any], files: list[int]) -> None:
    """Write the thumbnails to the files of a job."""
    for name, file in zip(thumbnail_names(sizes_of(arguments)), files, strict=True):
        write_at(file, thumbnails.by_name.get(name, b""), 0)
