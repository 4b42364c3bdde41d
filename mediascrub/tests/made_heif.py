"""A HEIF writer for tests: any items, references and properties around real coded data."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from mediascrub.isobmff import file_of_boxes, required

from .made_files import box, full_box
from .samples import DATA

_FILE = file_of_boxes(memoryview((DATA / "avif-still.avif").read_bytes()), 100).children()
_META = required(_FILE, b"meta", "file").children(4)
_PROPERTIES = required(required(_META, b"iprp", "meta").children(), b"ipco", "iprp").children()
CODED = bytes(required(_FILE, b"mdat", "file").content)
"""AV1 data of a picture of 768 × 512."""

ISPE, PIXI, AV1C, COLR = (
    box(kind, bytes(required(_PROPERTIES, kind, "ipco").content)) for kind in (b"ispe", b"pixi", b"av1C", b"colr")
)
HANDLER = full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(12), b"THE-LEAK\0")
FILE_TYPE = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")


@dataclass(frozen=True)
class MadeItem:
    """``properties`` are whole boxes; an essential one begins with ``!``."""

    id: int
    kind: bytes = b"av01"
    data: bytes = CODED
    properties: tuple[bytes, ...] = (ISPE, PIXI, b"!" + AV1C, COLR)
    behind_name: bytes = b""
    protection: int = 0
    data_reference: int = 0
    method: int = 0
    at: int | None = None  # instead of where its data is


@dataclass(frozen=True)
class MadeHeif:
    """Whole files are made by `build`."""

    items: tuple[MadeItem, ...] = (MadeItem(1),)
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...] = ()
    primary: int = 1
    wide: bool = False  # ids of 32 bits
    more_in_meta: bytes = b""
    behind: bytes = b""
    file_type: bytes = FILE_TYPE
    handler: bytes = HANDLER
    without: frozenset[bytes] = field(default_factory=frozenset)

    def build(self) -> bytes:
        """The file; every item's data once, in order, some of nobody's before it."""
        start = len(self.file_type) + len(self._meta(0)) + 8
        data = b"THE-LEAK" + b"".join(item.data for item in self.items if item.method == 0)
        return self.file_type + self._meta(start + 8) + box(b"mdat", data) + self.behind

    def _meta(self, start: int) -> bytes:
        idat = b"".join(item.data for item in self.items if item.method == 1)
        parts = {
            b"hdlr": self.handler,
            b"pitm": full_box(b"pitm", int(self.wide), 0, self._id(self.primary)),
            b"iloc": self._locations(start),
            b"iinf": full_box(b"iinf", 0, 0, struct.pack(">H", len(self.items)), *map(self._info, self.items)),
            b"iref": full_box(b"iref", int(self.wide), 0, *(self._reference(*each) for each in self.references)),
            b"iprp": self._properties(),
            b"idat": box(b"idat", idat) if idat else b"",
        }
        return full_box(
            b"meta", 0, 0, *(part for kind, part in parts.items() if kind not in self.without), self.more_in_meta
        )

    def _id(self, number: int) -> bytes:
        return struct.pack(">I" if self.wide else ">H", number)

    def _info(self, item: MadeItem) -> bytes:
        version = 3 if self.wide else 2
        head = self._id(item.id) + struct.pack(">H", item.protection) + item.kind
        return full_box(b"infe", version, 0, head, b"THE-LEAK\0", item.behind_name)

    def _locations(self, start: int) -> bytes:
        entries = []
        offsets = {0: start, 1: 0}
        for item in self.items:
            base = offsets.get(item.method, 0)
            offsets[item.method] = base + len(item.data)
            offset = base if item.at is None else item.at
            entries.append(
                self._id(item.id) + struct.pack(">HHHII", item.method, item.data_reference, 1, offset, len(item.data))
            )
        return full_box(b"iloc", 2 if self.wide else 1, 0, b"\x44\0", self._id(len(entries)), *entries)

    def _reference(self, kind: bytes, source: int, targets: tuple[int, ...]) -> bytes:
        return box(kind, self._id(source), struct.pack(">H", len(targets)), *map(self._id, targets))

    def _properties(self) -> bytes:
        written: list[bytes] = []
        lists = []
        for item in self.items:
            associations = b""
            for each in item.properties:
                written.append(each.removeprefix(b"!"))
                associations += bytes((len(written) | (0x80 if each.startswith(b"!") else 0),))
            lists.append(self._id(item.id) + bytes((len(item.properties),)) + associations)
        associated = full_box(b"ipma", int(self.wide), 0, struct.pack(">I", len(lists)), *lists)
        return box(b"iprp", box(b"ipco", *written), associated)


PLAIN = MadeHeif()


def with_item(item: MadeItem, *references: tuple[bytes, int, tuple[int, ...]]) -> MadeHeif:
    """The plain picture and one item more."""
    return replace(PLAIN, items=(*PLAIN.items, item), references=references)
