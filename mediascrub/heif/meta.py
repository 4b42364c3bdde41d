"""Writes a ``meta`` box with only the chosen items, and packs their data."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter

from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.heif.items import IN_IDAT, HeifItem, HeifItems, choose
from mediascrub.heif.properties import ChangesOf, changes_of_coded, kept_property, numbered
from mediascrub.isobmff import make_box, make_full_box
from mediascrub.ranges import Range, merged

_REFERENCES = frozenset((b"dimg", b"auxl", b"prem"))
_HIDDEN = 1
_MAX_SHORT = 0xFFFF


class Extents:
    """Ranges of ``source``, first collected with `keep`, then packed without gaps.

    Ranges may overlap: an animated AVIF's still picture is often its first frame. No byte is copied twice.
    """

    def __init__(self, source: memoryview) -> None:
        self._source = source
        self._ranges: list[Range] = []
        self._coded: list[tuple[Sequence[Range], ChangesOf]] = []
        self._starts: list[tuple[int, int]] = []  # in the source and in the packed data

    def keep(self, part: Range) -> None:
        """Keep a range; CORRUPT if it is not completely inside the source."""
        if part.end > len(self._source):
            raise corrupt("data lies beyond the end")
        self._ranges.append(part)

    def keep_coded(self, parts: Sequence[Range], changes_of: ChangesOf) -> None:
        """Keep one picture in these parts, without the private messages in it."""
        for part in parts:
            self.keep(part)
        self._coded.append((parts, changes_of))

    def pack(self) -> bytes:
        """Return the kept bytes in their old order. Call it before `translate`."""
        packed = bytearray()
        for each in merged(self._ranges):
            self._starts.append((each.offset, len(packed)))
            packed += self._source[each.offset : each.end]
        for parts, changes_of in self._coded:
            places = [slice(start := self.translate(part.offset), start + part.length) for part in parts if part.length]
            coded = bytearray(b"".join(packed[place] for place in places))
            for offset, new in changes_of(bytes(coded)):
                coded[offset : offset + len(new)] = new
            for place in places:
                length = place.stop - place.start
                packed[place], coded = coded[:length], coded[length:]
        return bytes(packed)

    def translate(self, offset: int) -> int:
        """Return where the byte at ``offset``, the first of a kept range, is in the packed data."""
        start, packed_start = self._starts[bisect_right(self._starts, offset, key=itemgetter(0)) - 1]
        return packed_start + offset - start


class MetaWriter:
    """Keeps the data of the picture ``in_file``, and writes the box for given positions of that data.

    The length of the box does not depend on them. Raises `ScrubError` as `choose` does, and for a picture without data.
    """

    def __init__(self, items: HeifItems, in_file: Extents) -> None:
        self._items = items
        self._chosen = choose(items)
        self._in_file = in_file
        self._in_idat = Extents(items.idat)
        for item in self._chosen:
            ranges = item.ranges or []
            # An identity item has no data of its own: its picture is another item.
            if item.kind != b"iden" and not any(length for _, length in ranges):
                raise corrupt("a picture without data")
            changes_of = changes_of_coded(item.kind, items.properties_of(item.id))
            (self._in_idat if item.method == IN_IDAT else in_file).keep_coded(ranges, changes_of)
        self._idat = self._in_idat.pack()
        self._wide = max(item.id for item in self._chosen) > _MAX_SHORT
        self._id_width = 4 if self._wide else 2
        # Properties do not depend on positions, so they are written once.
        self._iprp = self._properties()

    def write(self, data_offset: int) -> bytes:
        """Return the box for packed data that begins at ``data_offset`` of the file."""
        hdlr = make_full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(12), b"\0")
        pitm = make_full_box(b"pitm", int(self._wide), 0, self._id(self._items.primary))
        iloc, iinf, iref = self._locations(data_offset), self._infos(), self._references()
        idat = make_box(b"idat", self._idat) if self._idat else b""
        return make_full_box(b"meta", 0, 0, hdlr, pitm, iloc, iinf, iref, self._iprp, idat)

    def _id(self, item_id: int) -> bytes:
        return item_id.to_bytes(self._id_width, "big")

    def _locations(self, data_offset: int) -> bytes:
        entries: list[bytes] = []
        for item in self._chosen:
            if item.ranges:
                extents, start = (self._in_idat, 0) if item.method == IN_IDAT else (self._in_file, data_offset)
                placed = [(extents.translate(offset) + start, length) for offset, length in item.ranges if length]
                # The number 0 means that the data is in this file.
                head = self._id(item.id) + struct.pack(">HHH", item.method, 0, len(placed))
                entries.append(head + b"".join(struct.pack(">II", *each) for each in placed))
        widths = b"\x44\x00"  # offsets and lengths of four bytes, no base, no index
        return make_full_box(b"iloc", 2 if self._wide else 1, 0, widths, self._id(len(entries)), *entries)

    def _infos(self) -> bytes:
        version = 3 if self._wide else 2
        entries = (
            make_full_box(b"infe", version, item.flags & _HIDDEN, self._id(item.id), bytes(2), item.kind, b"\x00")
            for item in self._chosen
        )
        return make_full_box(b"iinf", int(self._wide), 0, self._id(len(self._chosen)), *entries)

    def _references(self) -> bytes:
        ids = {item.id for item in self._chosen}
        written: list[bytes] = []
        for kind, source, targets in self._items.references:
            kept = [self._id(target) for target in targets if target in ids]
            if kind in _REFERENCES and source in ids and kept:
                written.append(make_box(kind, self._id(source), len(kept).to_bytes(2, "big"), *kept))
        return make_full_box(b"iref", int(self._wide), 0, *written) if written else b""

    def _properties(self) -> bytes:
        used = sorted({index for item in self._chosen for index, _ in item.properties})
        kept: list[bytes] = []
        new_indexes: dict[int, int] = {}
        for index in used:
            if written := kept_property(numbered(self._items.properties, index)):
                kept.append(written)
                new_indexes[index] = len(kept)
        lists = [entry for item in self._chosen if (entry := self._property_list(item, new_indexes))]
        associations = make_full_box(b"ipma", int(self._wide), 1, len(lists).to_bytes(4, "big"), *lists)
        return make_box(b"iprp", make_box(b"ipco", *kept), associations)

    def _property_list(self, item: HeifItem, new_indexes: dict[int, int]) -> bytes:
        associations = []
        for index, essential in item.properties:
            if index in new_indexes:
                associations.append((new_indexes[index] | essential << 15).to_bytes(2, "big"))
            elif essential:
                kind = self._items.properties[index - 1].type
                raise ScrubError(ScrubCode.UNSUPPORTED, f"an essential property {kind!r}")
        if not associations:
            return b""
        return self._id(item.id) + bytes((len(associations),)) + b"".join(associations)
