"""One hostile file, and how it must end."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from avion_media.common.errors import Reason
from avion_media.common.formats import Family, by_filename

_MIB = 1 << 20
READY: Final = "ready"
"""What is odd in the file concerns nobody: it is shown, and its original comes without it."""


@dataclass(frozen=True, slots=True)
class Bomb:
    """``name`` is also the file's; ``ending`` is `READY` or the one reason it is refused with."""

    name: str
    make: Callable[[], bytes]
    ending: Reason | str

    @property
    def family(self) -> Family:
        """What a client of that file would declare."""
        fmt = by_filename(self.name)
        if fmt is None:
            raise ValueError(f"{self.name} has no accepted extension")
        return fmt.family


def zeros(megabytes: int) -> bytes:
    """So many MiB of zeros, compressed a thousandfold by zlib: one block again and again, as none refers to another."""
    deflater = zlib.compressobj(9)
    first, other = (deflater.compress(bytes(_MIB)) + deflater.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    checksum = (megabytes * _MIB % 65_521) << 16 | 1  # Adler-32
    return first + other * (megabytes - 1) + b"\3\0" + checksum.to_bytes(4, "big")
