"""CBOR (RFC 8949), as far as claims and assertions of C2PA need it: read within bounds of depth and number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mediascrub.errors import corrupt

_MAX_DEPTH: Final = 16
_MAX_ITEMS: Final = 10_000
_BREAK: Final = 0xFF
_INDEFINITE: Final = 31
_SIMPLE: Final = {20: False, 21: True}
_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def read_cbor(data: bytes) -> Any:
    """Return the first item in ``data``. Raises `ScrubError` (CORRUPT).

    Numbers that are no integers, and simple values but true and false, are None. Tags are left out.
    """
    return _Reader(data).item(0)


@dataclass(slots=True)
class _Reader:
    data: bytes
    offset: int = 0
    items: int = 0

    def item(self, depth: int) -> Any:
        self.items += 1
        if depth > _MAX_DEPTH or self.items > _MAX_ITEMS:
            raise corrupt("CBOR of too many or too deep items")
        (initial,) = self._take(1)
        kind, short = initial >> 5, initial & 0x1F
        if short == _INDEFINITE:
            return self._indefinite(kind, depth)
        argument = self._argument(short)
        if kind in (2, 3):
            content = self._take(argument)
            return content if kind == 2 else content.decode(errors="replace")
        if kind == 4:
            self._require(argument)
            return [self.item(depth + 1) for _ in range(argument)]
        if kind == 5:
            self._require(argument)
            return dict(self._pair(depth) for _ in range(argument))
        if kind == 6:
            return self.item(depth + 1)
        return {0: argument, 1: -1 - argument}.get(kind, _SIMPLE.get(short))

    def _argument(self, short: int) -> int:
        if short < 24:
            return short
        if short not in _LENGTHS:
            raise corrupt("CBOR of a reserved length")
        return int.from_bytes(self._take(_LENGTHS[short]), "big")

    def _indefinite(self, kind: int, depth: int) -> Any:
        if kind not in (2, 3, 4, 5):
            raise corrupt("CBOR of an indefinite length that has none")
        parts: list[Any] = []
        while self.data[self.offset : self.offset + 1] != bytes((_BREAK,)):
            parts.append(self._pair(depth) if kind == 5 else self.item(depth + 1))
        self.offset += 1
        if kind == 4:
            return parts
        if kind == 5:
            return dict(parts)
        empty = b"" if kind == 2 else ""
        if not all(isinstance(each, type(empty)) for each in parts):
            raise corrupt("CBOR of a string in other parts")
        return empty.join(parts)

    def _pair(self, depth: int) -> tuple[str, Any]:
        """Return a pair of a map. Names are texts; another one is written as text."""
        name = self.item(depth + 1)
        return name if isinstance(name, str) else repr(type(name)), self.item(depth + 1)

    def _require(self, count: int) -> None:
        if count > len(self.data) - self.offset:
            raise corrupt("CBOR of more items than bytes")

    def _take(self, length: int) -> bytes:
        taken = self.data[self.offset : self.offset + length]
        if len(taken) < length:
            raise corrupt("CBOR that is cut off")
        self.offset += length
        return taken
