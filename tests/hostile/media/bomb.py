"""One hostile file, and how it must end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from avion_media.domain.errors import Reason
from avion_media.domain.formats import Family, by_filename

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
