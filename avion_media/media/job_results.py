"""Checks the results of sandboxed processes for plausibility, because a hijacked process can return anything.

All functions raise `Rejected` (DECODER_CRASHED) for a result that no correct job returns.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn, TypeGuard

from avion_media.common.errors import Reason, Rejected
from avion_media.common.media import MAX_MANIFEST_BYTES, CredentialsState
from avion_media.media.plans import plan_from_json
from mediascrub import Bounds, Credentials, Format, MoviePlan, PictureBounds, Range, VideoBounds
from mediascrub.credentials import is_manifest
from mediascrub.provenance import is_generator, is_source_type
from mediathumbs import MAX_THUMBNAIL_BYTES, WAVEFORM_SPANS, WEBP_SUFFIX, is_blurhash

POSTER_SCAN_S = 10.0  # the part of a video that is searched for a frame that is not blank
_STREAM = re.compile("[iVA]:[0-9]{1,10}")
_WAVEFORM = re.compile(f"[0-9a-f]{{{2 * WAVEFORM_SPANS}}}")
_SHA256 = re.compile("[0-9a-f]{64}")


def checked_picture(found: dict[str, Any], scrubbed_fd: int, bounds: PictureBounds) -> dict[str, Any]:
    """Return all facts of a `picture_job` that wrote the scrubbed original to ``scrubbed_fd``, and no other values."""
    size_bytes = os.fstat(scrubbed_fd).st_size
    return _checked_frame(
        found,
        bounds,
        animated=_is_bool,
        duration_s=lambda value: _is_duration(value, bounds.max_duration_s),
        scrubbed_bytes=lambda value: _is_count(value) and value == size_bytes,
        sha256=lambda value: isinstance(value, str) and _SHA256.fullmatch(value) is not None,
        credentials=lambda value: isinstance(value, str) and value in set(CredentialsState),
        digital_source_type=lambda value: value == "" or is_source_type(value),
        claim_generator=is_generator,
    )


def checked_manifest(data: bytes) -> bytes:
    """Return the content credentials that a job found, if that is what they are."""
    if not is_manifest(data, len(data)) or len(data) > MAX_MANIFEST_BYTES:
        _refuse(f"a manifest of {len(data)} bytes: {data[:32]!r}")
    return data


def checked_poster(found: dict[str, Any], size_bytes: int, bounds: VideoBounds) -> dict[str, Any]:
    """Return all facts of a `poster_job` with a file of ``size_bytes``, and no other values."""
    facts = _checked_frame(found, bounds, blank=_is_bool)
    if found.get("key_frame") is None:
        return facts | {"key_frame": None}
    (key_frame,) = checked_missing({"missing": [found["key_frame"]]}, size_bytes)
    if key_frame.length > bounds.max_poster_bytes:
        _refuse(found)
    return facts | {"key_frame": key_frame}


def checked_sound(found: dict[str, Any], max_duration_s: float) -> dict[str, Any]:
    """Return all facts of a `sound_job`, and no other values."""
    duration_s, waveform = found.get("duration_s"), found.get("waveform")
    if not _is_duration(duration_s, max_duration_s) or not isinstance(waveform, str):
        _refuse(found)
    if _WAVEFORM.fullmatch(waveform) is None:
        _refuse(found)
    return {"duration_s": duration_s, "waveform": bytes.fromhex(waveform)}


def _checked_frame(found: dict[str, Any], bounds: Bounds, **checks: Callable[[Any], bool]) -> dict[str, Any]:
    checks |= {"width": _is_count, "height": _is_count, "blurhash": is_blurhash}
    if not all(check(found.get(name)) for name, check in checks.items()):
        _refuse(found)
    width, height = found["width"], found["height"]
    if not 0 < min(width, height) <= max(width, height) <= bounds.max_side or width * height > bounds.max_pixels:
        _refuse(found)
    return {name: found[name] for name in checks}


def read_thumbnails(outputs: dict[str, int]) -> dict[str, bytes]:
    """Return the thumbnails that a job wrote to ``outputs``: each size as a JPEG, and as a WebP if it wrote one."""
    made: dict[str, bytes] = {}
    for name, fd in outputs.items():
        data = os.pread(fd, MAX_THUMBNAIL_BYTES + 1, 0)
        if not data and name.endswith(WEBP_SUFFIX):
            continue
        is_of_kind = data[:4] + data[8:12] == b"RIFFWEBP" if name.endswith(WEBP_SUFFIX) else data[:3] == b"\xff\xd8\xff"
        if not is_of_kind or len(data) > MAX_THUMBNAIL_BYTES:
            _refuse(f"{name}: {data[:16]!r}, {os.fstat(fd).st_size} bytes")
        made[name] = data
    return made


def checked_names(answer: Any) -> dict[str, Any]:
    """Return a result of names and values, without further checks."""
    if not isinstance(answer, dict):
        _refuse(answer)
    return answer


def checked_missing(answer: Any, size_bytes: int) -> list[Range]:
    """Return the ranges that `plan_job` misses in a file of ``size_bytes``."""
    try:
        missing = [Range(offset, length) for offset, length in answer["missing"]]
    except (KeyError, TypeError, ValueError):
        _refuse(answer)
    if not _lie_within(missing, size_bytes):
        _refuse(answer)
    return missing


def read_plan(fd: int, fmt: Format, size_bytes: int, *, bounds: VideoBounds, max_bytes: int) -> MoviePlan:
    """Read the plan that `plan_job` wrote to ``fd``, for a file of ``fmt`` and ``size_bytes``."""
    try:
        plan = plan_from_json(json.loads(os.pread(fd, max_bytes, 0)))
        if _is_sound(plan, fmt, size_bytes, bounds.max_duration_s):
            return plan
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Rejected(Reason.DECODER_CRASHED, f"a plan that is none: {error!r}"[:300]) from None
    raise Rejected(Reason.DECODER_CRASHED, "a plan that fits no file of this kind and length")


def _is_sound(plan: MoviePlan, fmt: Format, size_bytes: int, max_duration_s: float) -> bool:
    """Return whether all ranges are inside the file, without overlap or change of length."""
    patches = [Range(each.offset, each.length) for each in plan.patches]
    return (
        plan.format in (fmt, fmt.other)
        and isinstance(plan.stream, str)
        and _STREAM.fullmatch(plan.stream) is not None
        and _is_count(plan.pixels)
        and _is_duration(plan.duration_s, max_duration_s)
        and _is_duration(plan.poster_s, POSTER_SCAN_S)
        and _lie_within(plan.poster_ranges, size_bytes)
        and _lie_within(patches, size_bytes)
        and all(offset + length <= following for (offset, length), (following, _) in pairwise(patches))
        and all(len(each.data) in (0, each.length) for each in plan.patches)
        and (plan.provenance.digital_source_type == "" or is_source_type(plan.provenance.digital_source_type))
        and is_generator(plan.provenance.claim_generator)
        and (plan.credentials is None or _are_sound(plan.credentials, size_bytes))
    )


def _are_sound(credentials: Credentials, size_bytes: int) -> bool:
    """Return whether these parts are inside the file, and the carriers sorted and apart."""
    return (
        _lie_within(credentials.manifest, size_bytes)
        and _lie_within(credentials.carriers, size_bytes)
        and all(each.end <= following.offset for each, following in pairwise(credentials.carriers))
    )


def _lie_within(ranges: Sequence[tuple[Any, Any]], size_bytes: int) -> bool:
    return all(_is_count(offset) and _is_count(length) and offset + length <= size_bytes for offset, length in ranges)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _is_duration(value: Any, max_s: float) -> bool:
    return type(value) in (int, float) and 0 <= value <= max_s  # which no NaN is


def _refuse(answer: Any) -> NoReturn:
    raise Rejected(Reason.DECODER_CRASHED, f"an answer that is none: {answer!r}"[:300])
