"""AVIF and HEIC: copies the primary picture, its tiles and transparency, and the tracks of an animation to a new file.

Only chosen items are copied, and of their coded data all but private messages. So Exif, XMP, thumbnails, gain and
depth maps, further pictures, signatures and boxes of makers are not in the copy, nor is any byte that no chosen item or
sample refers to. To zero them in place would keep megabytes of zeros, and is safe only if every reference was
found. Only the small ``moov`` of an animation is scrubbed in place, as in a video. The orientation is in ``irot`` and
``imir``, which stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from mediascrub.credentials import BOX_HEAD_BYTES, Credentials, find_credentials, is_manifest_box
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.formats import Format
from mediascrub.heif.items import HeifItems, read_items
from mediascrub.heif.meta import Extents, MetaWriter
from mediascrub.heif.properties import Appearance, changes_of_coded, looks_of
from mediascrub.heif.tracks import chunks_of, properties_of_track, read_tracks, scrubbed_moov
from mediascrub.isobmff import Box, codes, file_of_boxes, make_box
from mediascrub.picture import MAX_PEEKED_PARTS, Peek, Picture
from mediascrub.ranges import Range
from mediascrub.sniffing import AVIF_BRANDS, HEIF_BRANDS

_PEEK_BYTES = 64 << 10  # where the boxes are

_SEQUENCE_BRANDS = frozenset((b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"))
_GAIN_MAP_BRAND = b"tmap"
_BRANDS = AVIF_BRANDS | HEIF_BRANDS | codes("miaf mif3 MA1A MA1B MiHA MiHB MiHE MiPr avio iso8 tmap")
# More than any writer makes: a grid of the largest kind has 65 536 items, and as many properties.
_MAX_BOXES = 1 << 18
_MDAT_HEADER_BYTES = 8
# Writes a top-level box, given the position at which the packed data begins.
_Writer = Callable[[int], bytes]


class HeifFormat:
    """AVIF or HEIC. Their decoders differ: libavif returns a picture as stored, libheif one that is upright."""

    def __init__(self, fmt: Format, *, upright: bool) -> None:
        self._format = fmt
        self._upright = upright

    def peek(self, head: bytes) -> Peek | None:
        """See `PictureFormat`. The extent of the primary item is no smaller than that of its tiles and previews."""
        head = head[:_PEEK_BYTES]
        found_boxes = islice(re.finditer(b"ispe", head), MAX_PEEKED_PARTS)
        extents = [head[found.end() + 4 : found.end() + 12] for found in found_boxes]
        sizes = [(int.from_bytes(each[:4], "big"), int.from_bytes(each[4:], "big")) for each in extents]
        largest = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
        return Peek(*largest) if all(largest) else None

    def read(self, view: memoryview) -> Picture:
        """See `PictureFormat`. Coded data that is cut off is CORRUPT, because decoders show nothing of it."""
        parts = _top_level(view)
        in_file = Extents(view)
        writers: list[_Writer] = []
        items = read_items(parts[b"meta"]) if b"meta" in parts else None
        if items is not None:
            writers.append(MetaWriter(items, in_file).write)
        tracks = read_tracks(parts[b"moov"]) if b"moov" in parts else []
        if tracks:
            for track in tracks:
                for chunk in chunks_of(track):
                    in_file.keep(chunk)
                for sample in track.table.sample_ranges() if track.entries else ():
                    in_file.keep_coded([sample], changes_of_coded(track.entries[0].type, properties_of_track(track)))
            writers.append(partial(scrubbed_moov, parts[b"moov"], tracks, in_file))
        written = partial(_written, parts[b"ftyp"], writers, in_file.pack(), animated=bool(tracks))
        original = written()
        # libheif uses the primary item, and so does libavif if this is the major brand, or if there are no tracks.
        by_item = self._upright or parts[b"ftyp"].content[:4].tobytes() == b"avif"
        shown = tracks[0] if tracks and not by_item else None
        if shown is not None:
            looks, size = looks_of(properties_of_track(shown)), shown.display
        else:
            looks = _looks_of_primary(items)
            size = looks.upright_size if self._upright else looks.extent
        if looks.cropped and not self._upright:
            raise ScrubError(ScrubCode.UNSUPPORTED, "a crop, which many viewers of AVIF ignore")
        return Picture(
            format=self._format,
            width=size[0],
            height=size[1],
            orientation=1 if self._upright else looks.orientation,
            frames=shown.table.count if shown else 1,
            duration_s=shown.table.duration / shown.timescale if shown and shown.table.count > 1 else 0.0,
            colour=looks.colour,
            original=original,
            still=original,
            credentials=_credentials(view, parts.get(b"uuid"), written),
        )


AVIF = HeifFormat(Format.AVIF, upright=False)
HEIC = HeifFormat(Format.HEIC, upright=True)


def _looks_of_primary(items: HeifItems | None) -> Appearance:
    """Return how the primary item looks, with the colours of its first tile if it has none. CORRUPT without one."""
    if items is None:
        raise corrupt("no primary item")
    looks = looks_of(items.properties_of(items.primary))
    tiles = (each.targets for each in items.references if each.kind == b"dimg" and each.source == items.primary)
    first_tile = next((targets[0] for targets in tiles if targets), None)
    if looks.colour is None and first_tile is not None:
        return replace(looks, colour=looks_of(items.properties_of(first_tile)).colour)
    return looks


def _written(ftyp: Box, writers: Sequence[_Writer], data: bytes, manifest: bytes = b"", *, animated: bool) -> bytes:
    """Return the new file: the brands, a box with a manifest, the index by its writers, and the packed data."""
    if not data:
        raise corrupt("no picture")
    start = _file_type(bytes(ftyp.content), animated=animated) + manifest
    # No length depends on a position, so the first round only measures.
    data_offset = len(start) + sum(len(write(0)) for write in writers) + _MDAT_HEADER_BYTES
    return b"".join((start, *(write(data_offset) for write in writers), make_box(b"mdat", data)))


def _top_level(view: memoryview) -> dict[bytes, Box]:
    """Return the first ``ftyp``, ``meta`` and ``moov``, and the first ``uuid`` box with a manifest.

    Behind the ``meta`` box, other bytes than boxes can follow.
    """
    found: dict[bytes, Box] = {}
    try:
        for box in file_of_boxes(view, _MAX_BOXES).walk(strict=True):
            is_manifest = box.type == b"uuid" and is_manifest_box(box.content)
            if is_manifest or box.type in (b"ftyp", b"meta", b"moov"):
                found.setdefault(box.type, box)
    except ScrubError:
        if not found.keys() & {b"meta", b"moov"}:
            raise
    if b"ftyp" not in found:
        raise corrupt("no file type")
    return found


def _credentials(view: memoryview, box: Box | None, written: Callable[[bytes], bytes]) -> Credentials | None:
    """Return the credentials in a ``uuid`` box. A file that was scrubbed and then signed has it behind its brands."""
    if box is None:
        return None
    manifest = Range(box.payload + BOX_HEAD_BYTES, box.end - box.payload - BOX_HEAD_BYTES)
    whole = bytes(view[box.offset : box.end])
    return find_credentials(view, [manifest], [Range(box.offset, box.size)], lambda _: written(whole) == view)


def _file_type(payload: bytes, *, animated: bool) -> bytes:
    """Return the brands, without those that the copy does not conform to."""
    brands = [payload[start : start + 4] for start in range(0, len(payload) - 3, 4)]
    if len(brands) < 2:
        raise corrupt("a file type without brands")
    major, _, *compatible = brands
    untrue = {_GAIN_MAP_BRAND} if animated else {_GAIN_MAP_BRAND, *_SEQUENCE_BRANDS}
    if major in untrue or major not in _BRANDS:
        raise corrupt("an image sequence without pictures, or a file type that no reader knows")
    kept = (brand for brand in dict.fromkeys(compatible) if brand in _BRANDS - untrue)
    return make_box(b"ftyp", major, bytes(4), *kept)
