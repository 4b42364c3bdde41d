"""One replica of the random chaos: the real service. One kind of file kills it, and it records its attempts.

``python -m tests.chaos.random_replica``: `avion-media serve`, with the path of the notes in ``AVION_CHAOS_ATTEMPTS``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from tests.remote_ids import remote_id_for

DEADLY = b"avion-media tests: whoever works on this file dies"
_HEAD_BYTES = 4096


def die_of_deadly_files() -> None:
    """Patch the pipeline with a bug that kills the whole process silently."""
    from avion_media.media.pipeline import MediaPipeline, MediaSource, Processed

    process = MediaPipeline.process

    async def deadly(self: MediaPipeline, source: MediaSource, *args: Any, **options: Any) -> Processed:
        if DEADLY in os.pread(source.fd, _HEAD_BYTES, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return await process(self, source, *args, **options)

    MediaPipeline.process = deadly  # type: ignore[method-assign]


def write_down_attempts(path: str) -> None:
    """Write a line ``time pid begin|end id`` for each. An attempt that died with its process has no end."""
    from avion_media.items.deletion import RemoveDeleted
    from avion_media.workers.cache_remote import CacheRemote
    from avion_media.workers.process_media import ProcessMedia

    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(what: str, media_id: str) -> None:
        os.write(notes, f"{time.time():.3f} {os.getpid()} {what} {media_id}\n".encode())

    def wrap(handler: Any, kind: str) -> None:
        run = handler.run

        async def noted(self: Any, task: Any, ensure_lease: Any) -> None:
            media_id = task.fields.get("media_id") or remote_id_for(task.fields["remote_url"]).text
            note(f"begin {kind}", media_id)
            try:
                await run(self, task, ensure_lease)
            finally:
                note(f"end {kind}", media_id)

        handler.run = noted

    wrap(ProcessMedia, "process")
    wrap(CacheRemote, "cache")
    wrap(RemoveDeleted, "delete")


def main() -> None:
    """Run `avion-media serve`."""
    from avion_media.cli import command_line

    die_of_deadly_files()
    write_down_attempts(os.environ["AVION_CHAOS_ATTEMPTS"])
    sys.argv = ["avion-media", "serve"]
    command_line()


if __name__ == "__main__":
    main()
