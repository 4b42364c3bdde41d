"""What happened in a run, as one hash."""

from __future__ import annotations

import hashlib

_SHOWN_BYTES = 80


class Trace:
    """A SHA-256 over everything that crossed the network, over faults, and over what the program notes.

    Args:
      keep: whether `lines` has all of it as text. A long run has millions of lines.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._hash = hashlib.sha256()
        self._closed = False
        self.lines: list[str] | None = [] if keep else None

    def add(self, at: float, text: str, data: bytes = b"") -> None:
        """Add one line, and the bytes that it is about."""
        if self._closed:
            return
        line = f"{at:.9f} {text}"
        self._hash.update(b"%s\n%d\n" % (line.encode(errors="surrogateescape"), len(data)))
        self._hash.update(data)
        if self.lines is not None:
            self.lines.append(f"{line} {data[:_SHOWN_BYTES]!r}" if data else line)

    def close(self) -> None:
        """Ignore what comes later: the run is over, and its tasks only clean up."""
        self._closed = True

    @property
    def digest(self) -> str:
        """The hash so far, in hexadecimal digits."""
        return self._hash.hexdigest()
