"""Adds one queue more to `avion-media`."""

from __future__ import annotations

from avion_media.common.tasks import QUEUES, Queue

ANOTHER = "media_another_queue"
QUEUES[ANOTHER] = Queue(ANOTHER, "Another", "What another queue does is late.", required=("media_id", "wanted"))
