"""The readers of containers of videos and sound, whole and over a file of holes, and the scrub that they plan."""

from __future__ import annotations

import os

from avion_media.media.plans import plan_from_json, plan_to_json
from mediascrub import Format, ScrubError, plan_movie
from mediascrub.bounds import VideoBounds
from mediascrub.movie import MoviePlan
from mediascrub.ranges import Patch, Range
from mediascrub.sparse import Missing, SparseFile
from mediascrub.tests.videos import apply_patches, examine_bytes
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import AUDIO_FORMATS, VIDEO_FORMATS, audio, check_credentials, labelled, videos

_FORMATS = (*VIDEO_FORMATS, *AUDIO_FORMATS)
# Of these the scrub is a fixed point, also of a damaged file.
_SCRUBBED_ONCE = (Format.MP3, Format.OGG, Format.FLAC, Format.WAV)
_BOUNDS = VideoBounds(max_boxes=20_000, max_samples=200_000)
_UNIT_BYTES = 4 << 10
_MAX_ROUNDS = 64


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, _FORMATS)
    spool = os.memfd_create("fuzz")
    try:
        os.write(spool, content)
        try:
            plan = plan_movie(SparseFile(spool, len(content)), fmt, bounds=_BOUNDS)
        finally:
            _examine_in_pieces(spool, len(content), fmt)
    finally:
        os.close(spool)
    _check(plan, content)


def _check(plan: MoviePlan, content: bytes) -> None:
    assert plan_from_json(plan_to_json(plan)) == plan, "the plan does not survive its journey"
    assert all(_is_inside(each, len(content)) for each in plan.patches), "a patch outside the file"
    assert all(_is_inside(each, len(content)) for each in plan.poster_ranges), "a range outside the file"
    clean = apply_patches(plan.patches, content)
    assert len(clean) == len(content), "the scrub moves bytes"
    if plan.format in _SCRUBBED_ONCE:
        assert examine_bytes(clean, plan.format).patches == (), "a second scrub changes more"
    if plan.credentials is not None:
        check_credentials(plan.credentials, content)


def _examine_in_pieces(spool: int, size_bytes: int, fmt: Format) -> None:
    """As the service does with a file in the store: whatever is asked for must come nearer to an end."""
    present: list[Range] = []
    for _ in range(_MAX_ROUNDS):
        file = SparseFile(spool, size_bytes, present)
        missing = _missing(file, fmt)
        if not missing:
            return
        assert all(_is_inside(each, size_bytes) for each in missing), "asks for what is not in the file"
        assert any(file.missing(each.offset, each.length) for each in missing), "asks for what it has"
        present += [_rounded(each, size_bytes) for each in missing]


def _missing(file: SparseFile, fmt: Format) -> tuple[Range, ...]:
    try:
        plan_movie(file, fmt, bounds=_BOUNDS)
    except Missing as missing:
        return missing.ranges
    except ScrubError:
        pass  # an end as well
    return ()


def _is_inside(part: Range | Patch, size_bytes: int) -> bool:
    return part.offset >= 0 and part.length > 0 and part.end <= size_bytes


def _rounded(part: Range, size_bytes: int) -> Range:
    start = part.offset - part.offset % _UNIT_BYTES
    return Range(start, min(size_bytes, part.end + _UNIT_BYTES) - start)


def _seeds() -> list[bytes]:
    sounds = (bytes((seed[0] + len(VIDEO_FORMATS),)) + seed[1:] for seed in audio())
    return [*videos(), *sounds]


TARGET = parser_target("video-containers", _seeds, _feed, allowed=(ScrubError,), max_bytes=256 << 10, weight=3.0)
