"""A ZIP archive as a stream: what an archive has written leaves it piece by piece, and is not kept."""

from __future__ import annotations


class Pieces:
    """What the ZIP writer has written since the last `take`. It cannot be rewound, so lengths follow the contents."""

    def __init__(self) -> None:
        self._written = bytearray()

    @property
    def size_bytes(self) -> int:
        """The number of bytes that `take` would return."""
        return len(self._written)

    def write(self, data: bytes) -> int:
        """Add bytes."""
        self._written += data
        return len(data)

    def flush(self) -> None:
        """Do nothing: `take` flushes."""

    def take(self) -> bytes:
        """Return the bytes, and forget them."""
        taken, self._written = bytes(self._written), bytearray()
        return taken
