"""AVIF and HEIC: the primary picture, its tiles and transparency, and the tracks of an animation, in a file written
anew around their unchanged coded data.

Items are chosen, not removed: Exif, XMP, thumbnails, gain and depth maps, further pictures, signatures and boxes of
makers have no way into the copy, nor has any byte that no chosen item or sample refers to. The alternative, to zero
them in place, keeps megabytes of nothing and trusts that every reference to them was found. Orientation is in
``irot`` and ``imir``, which stay; that of Exif has no effect in these formats.
"""

from __future__ import annotations

from collections.abc import Callable

from avion_media.domain.errors import Rejected
from avion_media.media.scrub.heif.boxes import boxes, make_box
from avion_media.media.scrub.heif.extents import Extents
from avion_media.media.scrub.heif.items import choose, read_items
from avion_media.media.scrub.heif.meta import MetaWriter, keep_data
from avion_media.media.scrub.heif.tracks import Track, read_tracks, write_moov
from avion_media.media.scrub.structure import corrupt

__all__ = ["scrub_heif"]

_SEQUENCE_BRANDS = frozenset((b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"))
_GAIN_MAP_BRAND = b"tmap"
_MAX_BRANDS = 32
_MDAT_HEADER_BYTES = 8
# Writes a top-level box, given the position at which the packed data begins.
_Writer = Callable[[int], bytes]


def scrub_heif(view: memoryview) -> bytes:
    """See `scrub_image`. Coded data that is cut off is CORRUPT: decoders show nothing of it."""
    parts = _top_level(view)
    in_file = Extents(view)
    writers: list[_Writer] = []
    tracks: list[Track] = []
    if b"meta" in parts:
        items = read_items(parts[b"meta"])
        chosen = choose(items)
        in_idat = Extents(items.idat)
        keep_data(chosen, in_file, in_idat)
        writers.append(MetaWriter(items, chosen, in_file, in_idat, in_idat.pack()).write)
    if b"moov" in parts and (tracks := read_tracks(parts[b"moov"])):
        for track in tracks:
            for offset, length in track.chunks:
                in_file.keep(offset, length)
        writers.append(_moov_writer(parts[b"moov"], tracks, in_file))
    data = in_file.pack()
    if not data:
        raise corrupt("no picture")
    return _assemble(_file_type(parts[b"ftyp"], animated=bool(tracks)), writers, data)


def _moov_writer(moov: memoryview, tracks: list[Track], in_file: Extents) -> _Writer:
    return lambda data_offset: write_moov(moov, tracks, lambda offset: in_file.translate(offset) + data_offset)


def _assemble(file_type: bytes, writers: list[_Writer], data: bytes) -> bytes:
    # No length depends on a position: the first round only measures.
    index_bytes = sum(len(write(0)) for write in writers)
    data_offset = len(file_type) + index_bytes + _MDAT_HEADER_BYTES
    return b"".join((file_type, *(write(data_offset) for write in writers), make_box(b"mdat", data)))


def _top_level(view: memoryview) -> dict[bytes, memoryview]:
    """The first ``ftyp``, ``meta`` and ``moov``. Once a picture is described, what is no box may follow."""
    found: dict[bytes, memoryview] = {}
    try:
        for box in boxes(view):
            if box.kind in (b"ftyp", b"meta", b"moov"):
                found.setdefault(box.kind, box.payload)
    except Rejected:
        if not found.keys() & {b"meta", b"moov"}:
            raise
    if b"ftyp" not in found:
        raise corrupt("no file type")
    return found


def _file_type(payload: memoryview, *, animated: bool) -> bytes:
    """The brands, without those whose promise the copy does not keep."""
    brands = [bytes(payload[start : start + 4]) for start in range(0, len(payload) - 3, 4)]
    if len(brands) < 2:
        raise corrupt("a file type without brands")
    major, _, *compatible = brands
    untrue = {_GAIN_MAP_BRAND} if animated else {_GAIN_MAP_BRAND, *_SEQUENCE_BRANDS}
    if major in untrue:
        raise corrupt("an image sequence without pictures")
    kept = [brand for brand in compatible[:_MAX_BRANDS] if brand not in untrue]
    return make_box(b"ftyp", major, bytes(4), *kept)
