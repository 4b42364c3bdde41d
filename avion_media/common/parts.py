"""How an upload is cut into the parts of a multipart upload. Pure.

All parts but the last have the same size, since R2 demands it. 8 MiB is above S3's minimum of 5 MiB, and one lost
connection costs no more than that. Larger files get larger parts: Scaleway allows 1,000 parts, AWS 10,000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIN_PART_BYTES: Final = 8 << 20
MAX_PARTS: Final = 1000
MULTIPART_THRESHOLD_BYTES: Final = 16 << 20
"""Clients should upload larger files in parts: below it there would be one part or two."""
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One part: ``number`` counts from 1, ``offset`` and ``size_bytes`` are in the file."""

    number: int
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The parts of a file of ``size_bytes``, each of ``part_bytes`` but the last."""

    size_bytes: int
    part_bytes: int

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size_bytes // self.part_bytes)

    def part(self, number: int) -> Part:
        """Return one part. ValueError if there is none of this number."""
        if not 1 <= number <= self.count:
            raise ValueError(f"there are parts 1 to {self.count}, not {number}")
        offset = (number - 1) * self.part_bytes
        return Part(number, offset, min(self.part_bytes, self.size_bytes - offset))

    def parts(self) -> list[Part]:
        """Return all parts, in order."""
        return [self.part(number) for number in range(1, self.count + 1)]


def plan_parts(size_bytes: int) -> PartPlan:
    """Return the plan for a file of this size: parts of `MIN_PART_BYTES`, or of more so that `MAX_PARTS` suffice."""
    enough = -(-size_bytes // MAX_PARTS)
    whole_mebibytes = -(-enough // _MEBIBYTE) * _MEBIBYTE
    return PartPlan(size_bytes, max(MIN_PART_BYTES, whole_mebibytes))
