"""The service with a bug in its decoders: each signal kills the first one that reads a picture which names it, and
the picture that names a bug fails each of them.

``python -m tests.service.dying_decoder serve``: `avion-media serve`, with that bug.
"""

from __future__ import annotations

import mmap
import os
import signal
from typing import Any


def mark(number: signal.Signals) -> bytes:
    """Return the bytes that make a picture deadly if they stand at its end."""
    return f"avion-media tests: the first decoder dies of {number.name}".encode()


FAILING = b"avion-media tests: the decoder fails"


def arm() -> None:
    """Patch the job of pictures, in the fork server."""
    from avion_media.media import jobs

    died = mmap.mmap(-1, mmap.PAGESIZE)  # which the decoders share
    picture_job = jobs.picture_job

    def dying(arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
        content = os.pread(files[0], os.fstat(files[0]).st_size, 0)
        for number in (signal.SIGKILL, signal.SIGSEGV):
            if content.endswith(mark(number)) and not died[number]:
                died[number] = 1
                signal.raise_signal(number)
        if content.endswith(FAILING):
            raise KeyError("a bug that this file reaches")
        return picture_job(arguments, files)

    jobs.picture_job = dying


def main() -> None:
    """Run the command line."""
    from avion_media.__main__ import main as command_line
    from avion_media.media.pipeline import preload_for
    from avion_media.nodes import foundation

    armed = f"{__spec__.name}:arm"
    vars(foundation)["preload_for"] = lambda enabled: (*preload_for(enabled), armed)
    command_line()


if __name__ == "__main__":
    main()
