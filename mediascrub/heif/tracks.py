"""The tracks of an image sequence (animated AVIF, HEIC bursts): finds the pictures, and writes a ``moov`` for them.

The ``moov`` is like that of a video, so both use one reader and one scrub. Only the offsets of its chunks change.
"""

from __future__ import annotations

from collections.abc import Sequence

from mediascrub.bounds import VideoBounds
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.heif.meta import Extents
from mediascrub.heif.properties import is_alpha
from mediascrub.isobmff import Box, first, make_box
from mediascrub.movie import Edits
from mediascrub.mp4.moov import VISUAL_ENTRY_BYTES, Track, read_movie
from mediascrub.mp4.scrub import MovieScrub, free
from mediascrub.ranges import Range, total_bytes

_PICTURES, _AUXILIARY = b"pict", b"auxv"
_SAMPLE_ENTRIES = frozenset((b"av01", b"hvc1", b"hev1"))
_MAX_CHUNKS = 1 << 16  # limits memory


def read_tracks(moov: Box) -> list[Track]:
    """Return the tracks of pictures and of their transparency; thumbnails, sound, video, text and data are left out."""
    if first(moov.children(), b"mvex"):
        raise ScrubError(ScrubCode.UNSUPPORTED, "a fragmented image sequence")
    tracks = read_movie(moov, VideoBounds()).tracks
    pictures = {track.track_id for track in tracks if track.handler == _PICTURES and not _targets(track, b"thmb")}
    kept = [
        track
        for track in tracks
        if (track.handler == _PICTURES and track.track_id in pictures) or _is_alpha_of(track, pictures)
    ]
    if len({track.track_id for track in kept}) != len(kept):
        raise corrupt("two tracks of one number")
    for entry in (entry for track in kept for entry in track.entries):
        if entry.type not in _SAMPLE_ENTRIES:
            raise ScrubError(ScrubCode.UNSUPPORTED, f"samples of type {entry.type!r}")
    return kept


def properties_of_track(track: Track) -> list[Box]:
    """Return the properties of the first sample entry."""
    return track.entries[0].children(VISUAL_ENTRY_BYTES) if track.entries else []


def chunks_of(track: Track) -> list[Range]:
    """Return the ranges of its chunks. CORRUPT if some samples are in no chunk, or a chunk has none."""
    table = track.table
    chunks = list(table.chunk_ranges()) if len(table.chunks) <= _MAX_CHUNKS else []
    total = table.constant_size * table.count or sum(table.sizes)
    if len(chunks) != len(table.chunks) or total_bytes(chunks) != total:
        raise corrupt("chunks and samples do not agree")
    return chunks


def scrubbed_moov(moov: Box, tracks: Sequence[Track], in_file: Extents, data_offset: int) -> bytes:
    """Return the ``moov`` box of these tracks, of the same length, for packed data that begins at ``data_offset``."""
    content = bytearray(moov.content)
    edits = Edits(lambda offset, length: bytes(moov.content[offset - moov.payload :][:length]))
    MovieScrub(tracks, edits).walk(moov)
    for track in tracks:
        _place_chunks(track, edits, in_file, data_offset)
    for patch in edits.patches:
        start = patch.offset - moov.payload
        content[start : start + patch.length] = patch.data or bytes(patch.length)
    return make_box(b"moov", bytes(content))


def _place_chunks(track: Track, edits: Edits, in_file: Extents, data_offset: int) -> None:
    """Write the offsets into the table that readers use. Another table of the other width becomes ``free``."""
    tables = [box for box in track.tables if box.type in (b"stco", b"co64")]
    used = first(tables, b"co64") or tables[0]
    width = 8 if used.type == b"co64" else 4
    offsets = (in_file.translate(each.offset) + data_offset if each.length else 0 for each in chunks_of(track))
    edits.put(used.payload + 8, b"".join(offset.to_bytes(width, "big") for offset in offsets))
    for box in tables:
        if box is not used:
            free(edits, box)


def _is_alpha_of(track: Track, pictures: set[int]) -> bool:
    if track.handler != _AUXILIARY or not track.entries:
        return False
    alpha = all(any(map(is_alpha, entry.children(VISUAL_ENTRY_BYTES))) for entry in track.entries)
    return alpha and not pictures.isdisjoint(_targets(track, b"auxl"))


def _targets(track: Track, kind: bytes) -> tuple[int, ...]:
    """Return the tracks that it refers to."""
    found = first(track.box.children(), b"tref", kind)
    return found.integers(f"{len(found.content) // 4}I") if found else ()
