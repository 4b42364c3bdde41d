"""Stores interrupted uploads in parts, so that `upload --resume` can go on with them."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was begun: what the service returned for it."""

    media_id: str
    upload_id: str


class Memory:
    """One small file for each upload in parts, below ``$XDG_STATE_HOME/avion-media/uploads``.

    Its name is a hash of the service and of the uploaded file; after a change of that file it is another name. The
    content needs no protection: the service accepts an upload id only from its own callers.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._folder = Path(base) / "avion-media" / "uploads"

    def load(self, path: Path) -> Begun | None:
        """Return the upload of a file that was begun; None if there is none."""
        try:
            found = json.loads(self._file_of(path).read_text())
            return Begun(found["media_id"], found["upload_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, path: Path, begun: Begun) -> None:
        """Record that an upload was begun. If that fails, the upload goes on, but cannot be resumed."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file_of(path).write_text(json.dumps({"media_id": begun.media_id, "upload_id": begun.upload_id}))

    def forget(self, path: Path) -> None:
        """Record that an upload is over."""
        with suppress(OSError):
            self._file_of(path).unlink(missing_ok=True)

    def _file_of(self, path: Path) -> Path:
        about = path.stat()
        named = "\n".join([self._service, str(path.resolve()), str(about.st_size), str(about.st_mtime_ns)])
        return self._folder / f"{hashlib.sha256(named.encode(errors='surrogateescape')).hexdigest()[:32]}.json"
