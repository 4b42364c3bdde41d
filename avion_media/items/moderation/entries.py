"""Entries of block lists: ``type,hash,label``, one per line (docs/contract.md, section 3).

Own entries have ``type,hash,label,media_id``: the block of that media item added them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_MAX_LABEL = 200


class HashType(StrEnum):
    """The type of hash of an entry: of the bytes of a file, or of its appearance."""

    SHA256 = "sha256"
    MD5 = "md5"
    PDQ = "pdq"

    @property
    def size_bytes(self) -> int:
        """The length of a hash of this type."""
        return 16 if self is HashType.MD5 else 32


EXACT = (HashType.SHA256, HashType.MD5)
"""The types that are hashes of bytes."""


class InvalidEntry(ValueError):
    """Not an entry of a block list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``label`` is for operators. ``media_id`` is the media item whose block added it, if one did."""

    type: HashType
    hash: bytes
    label: str = ""
    media_id: str = ""

    def __str__(self) -> str:
        text = io.StringIO()
        fields = (self.type, self.hash.hex(), self.label, *([self.media_id] if self.media_id else []))
        csv.writer(text, lineterminator="").writerow(fields)
        return text.getvalue()

    @property
    def named(self) -> str:
        """What operators know it by: its label, or the media item."""
        return self.label or self.media_id


def parse_entry(line: str) -> Entry:
    """Read one line. The label can be missing, and so can the media item. Raises `InvalidEntry`."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error as error:
        raise InvalidEntry(str(error)) from None
    if not 2 <= len(fields) <= 4:
        raise InvalidEntry("expected type,hash,label")
    try:
        kind = HashType(fields[0].strip().lower())
    except ValueError:
        raise InvalidEntry(f"the type must be one of {', '.join(HashType)}") from None
    try:
        digest = bytes.fromhex(fields[1].strip())
    except ValueError:
        digest = b""
    if len(digest) != kind.size_bytes:
        raise InvalidEntry(f"a hash of type {kind} has {2 * kind.size_bytes} hex digits")
    label, media_id = (each.strip()[:_MAX_LABEL] for each in (*fields[2:], "", "")[:2])
    return Entry(kind, digest, label, media_id)


def parse_list(lines: Iterable[str]) -> Iterator[Entry | tuple[int, InvalidEntry]]:
    """Read a list. Return its entries, and the numbers of invalid lines. Comments and a header are skipped."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#") or (number == 1 and text.lower().startswith("type,hash")):
            continue
        try:
            yield parse_entry(text)
        except InvalidEntry as error:
            yield number, error
