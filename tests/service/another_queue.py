"""`avion-media` with one queue more: ``python -m tests.service.another_queue``."""

from __future__ import annotations

from avion_media.common.tasks import QUEUES, Queue

ANOTHER = "media_another_queue"
QUEUES[ANOTHER] = Queue(ANOTHER, "Another", "What another queue does is late.", required=("media_id", "wanted"))


def main() -> None:
    """Run a command."""
    from avion_media.cli import command_line

    command_line()


if __name__ == "__main__":
    main()
