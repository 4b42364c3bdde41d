"""The items of a HEIF file: reading the ``meta`` box, and choosing those that make up the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mediascrub.bounds import Quota
from mediascrub.errors import ScrubCode, ScrubError, corrupt
from mediascrub.heif.properties import MAX_PROPERTIES, is_alpha, numbered
from mediascrub.isobmff import Box, Reader, first, required
from mediascrub.ranges import Range

# A grid may have 256 × 256 tiles, and cameras use a few hundred; these bound memory.
_MAX_ITEMS = 1 << 16
_MAX_TARGETS = 1 << 18
_MAX_ASSOCIATIONS = 1 << 19
_MAX_RANGES = 1 << 17
_ITEM_KINDS = frozenset((b"av01", b"hvc1", b"grid", b"iden", b"iovl"))
IN_FILE, IN_IDAT = 0, 1


@dataclass(slots=True)
class HeifItem:
    """One item with its properties as (number in ``ipco``, essential). ``ranges`` are None until they are read."""

    id: int
    kind: bytes
    flags: int
    protected: bool
    method: int = IN_FILE
    external: bool = False
    ranges: list[Range] | None = None
    properties: list[tuple[int, bool]] = field(default_factory=list)


class Reference(NamedTuple):
    """A typed reference from one item to others."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


@dataclass(slots=True)
class HeifItems:
    """The items of a ``meta`` box."""

    primary: int
    by_id: dict[int, HeifItem]
    properties: list[Box]
    references: list[Reference]
    idat: memoryview

    def properties_of(self, item_id: int) -> list[Box]:
        """Return the properties of an item, in its order. CORRUPT if one does not exist."""
        return [numbered(self.properties, number) for number, _ in self.by_id[item_id].properties]


def read_items(meta: Box) -> HeifItems:
    """Read the ``meta`` box of pictures. An inconsistent one is CORRUPT."""
    parts = meta.children(4, strict=True)
    if bytes(required(parts, b"hdlr", "meta").at(8, 4)) != b"pict":
        raise corrupt("the items are not pictures")
    by_id = _read_infos(required(parts, b"iinf", "meta"))
    _read_locations(required(parts, b"iloc", "meta"), by_id)
    properties = required(parts, b"iprp", "meta").children(strict=True)
    _read_associations(properties, by_id)
    primary = Reader(required(parts, b"pitm", "meta").content)
    references, idat = first(parts, b"iref"), first(parts, b"idat")
    return HeifItems(
        primary=primary.number(2 if _version(primary) == 0 else 4),
        by_id=by_id,
        properties=required(properties, b"ipco", "iprp").children(strict=True)[:MAX_PROPERTIES],
        references=_read_references(references) if references else [],
        idat=idat.content if idat else memoryview(b""),
    )


def choose(items: HeifItems) -> list[HeifItem]:
    """Return the primary picture, its tiles or layers, and their transparency, in the order of the file.

    All else is left out. Raises UNSUPPORTED for a kind of picture, EXTERNAL_REFERENCE for data in another file.
    """
    sources: dict[int, list[int]] = {}
    for reference in items.references:
        if reference.kind == b"dimg":
            sources.setdefault(reference.source, []).extend(reference.targets)
    chosen = _closure({items.primary}, sources)
    chosen |= _closure(_alphas(items, chosen), sources)
    for item_id in chosen:
        _check(items.by_id.get(item_id))
    return [item for item in items.by_id.values() if item.id in chosen]


def _closure(start: set[int], sources: dict[int, list[int]]) -> set[int]:
    reached = set(start)
    pending = list(start)
    while pending:
        # Each list is followed once. Popping it keeps this linear, even if references are repeated.
        for target in sources.pop(pending.pop(), ()):
            if target not in reached:
                reached.add(target)
                pending.append(target)
    return reached


def _alphas(items: HeifItems, pictures: set[int]) -> set[int]:
    alpha_types = {number for number, box in enumerate(items.properties, 1) if is_alpha(box)}
    alphas = {item.id for item in items.by_id.values() if any(number in alpha_types for number, _ in item.properties)}
    of_alphas = [each for each in items.references if each.kind == b"auxl" and each.source in alphas]
    return {each.source for each in of_alphas if not pictures.isdisjoint(each.targets)}


def _check(item: HeifItem | None) -> None:
    if item is None:
        raise corrupt("a picture refers to an item that does not exist")
    if item.kind not in _ITEM_KINDS or item.protected:
        raise ScrubError(ScrubCode.UNSUPPORTED, f"an item of type {item.kind!r}")
    if item.external:
        raise ScrubError(ScrubCode.EXTERNAL_REFERENCE, "an item's data is in another file")
    if item.method not in (IN_FILE, IN_IDAT):
        raise ScrubError(ScrubCode.UNSUPPORTED, "an item's data is constructed from other items")


def _version(reader: Reader) -> int:
    return reader.number(4) >> 24


def _read_infos(iinf: Box) -> dict[int, HeifItem]:
    reader = Reader(iinf.content)
    reader.take(2 if _version(reader) == 0 else 4)
    by_id: dict[int, HeifItem] = {}
    for box in iinf.children(reader.offset, strict=True):
        if box.type != b"infe":
            continue
        entry = Reader(box.content)
        head = entry.number(4)
        version, flags = head >> 24, head & 0xFFFFFF
        if version not in (2, 3):
            continue
        item_id = entry.number(2 if version == 2 else 4)
        protected = entry.number(2) != 0
        if item_id in by_id or len(by_id) >= _MAX_ITEMS:
            raise corrupt("an item is given twice, or there are too many")
        by_id[item_id] = HeifItem(item_id, bytes(entry.take(4)), flags, protected)
    return by_id


def _read_locations(iloc: Box, by_id: dict[int, HeifItem]) -> None:
    reader = Reader(iloc.content)
    version = _version(reader)
    widths = reader.number(2)
    offset_width, length_width, base_width = widths >> 12, widths >> 8 & 15, widths >> 4 & 15
    index_width = widths & 15 if version > 0 else 0
    # A range without a length means a whole file. No encoder writes it, and empty ranges would evade the limits.
    if version > 2 or length_width == 0 or {offset_width, length_width, base_width, index_width} - {0, 4, 8}:
        raise corrupt("an item location box of an unknown layout")
    id_width = 2 if version < 2 else 4
    quota = Quota(_MAX_RANGES, "ranges of data", ScrubCode.CORRUPT)
    for _ in range(reader.number(id_width)):
        item = by_id.get(reader.number(id_width))
        method = reader.number(2) & 15 if version > 0 else IN_FILE
        external = reader.number(2) != 0
        base = reader.number(base_width)
        ranges: list[Range] = []
        range_count = reader.number(2)
        quota.take(range_count)
        for _ in range(range_count):
            reader.take(index_width)
            ranges.append(Range(base + reader.number(offset_width), reader.number(length_width)))
        if item is not None:
            if item.ranges is not None:
                raise corrupt("an item has two locations")
            item.method, item.external, item.ranges = method, external, ranges


def _read_associations(boxes: list[Box], by_id: dict[int, HeifItem]) -> None:
    quota = Quota(_MAX_ASSOCIATIONS, "properties", ScrubCode.CORRUPT)
    for box in boxes:
        if box.type != b"ipma":
            continue
        reader = Reader(box.content)
        head = reader.number(4)
        id_width, index_width = (2 if head >> 24 == 0 else 4), 1 + (head & 1)
        essential_bit = 0x80 << 8 * (index_width - 1)
        for _ in range(reader.number(4)):
            item = by_id.get(reader.number(id_width))
            count = reader.number(1)
            quota.take(count)
            values = [reader.number(index_width) for _ in range(count)]
            if item is None:
                continue
            if item.properties:
                raise corrupt("an item has two lists of properties")
            # Number 0 stands for no property.
            pairs = ((value & ~essential_bit, value >= essential_bit) for value in values)
            item.properties = [pair for pair in pairs if pair[0]]


def _read_references(iref: Box) -> list[Reference]:
    reader = Reader(iref.content)
    id_width = 2 if _version(reader) == 0 else 4
    references: list[Reference] = []
    quota = Quota(_MAX_TARGETS, "references", ScrubCode.CORRUPT)
    for box in iref.children(reader.offset, strict=True):
        entry = Reader(box.content)
        source, count = entry.number(id_width), entry.number(2)
        quota.take(max(count, 1))
        references.append(Reference(box.type, source, tuple(entry.number(id_width) for _ in range(count))))
    return references
