"""The last attempts at tasks of all workers, with their steps, for the page of a media item.

The stream is bounded, and the log is the record that is kept. A worker writes after the end of an attempt, once, and
goes on if Redis does not take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avion_media.backends.redis import Redis, as_text
from avion_media.common.records import HashRecord

ATTEMPTS_STREAM: Final = "media_attempts"
KEPT: Final = 2000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. ``subject`` is the id of the media item. ``steps``: what took time, each as name, start and
    duration in ms after the start of the attempt, separated by tabs, one per line."""

    subject: str = ""
    queue: str = ""
    task_id: str = ""
    number: int = 0
    worker: str = ""
    began_at: float = 0.0  # Unix seconds
    duration_s: float = 0.0
    outcome: str = ""
    reason: str = ""
    steps: str = ""
    entry_id: str = ""


ATTEMPT: Final = HashRecord("attempt", Attempt, ATTEMPTS_STREAM, "workers")


async def record(redis: Redis, attempt: Attempt) -> None:
    """Add an attempt. Raises `Unavailable`, also if Redis is full."""
    fields = ATTEMPT.write(attempt)
    del fields["entry_id"]
    flat = [part for pair in fields.items() for part in pair]
    await redis.execute("XADD", ATTEMPTS_STREAM, "MAXLEN", "~", KEPT, "*", *flat)


async def attempts_at(redis: Redis, subject: str) -> list[Attempt]:
    """Return the known attempts at tasks of a media item, oldest first. Raises `Unavailable`."""
    rows = await redis.execute("XRANGE", ATTEMPTS_STREAM, "-", "+")
    found = [
        ATTEMPT.read_or_skip({**as_text(flat), "entry_id": entry_id.decode()}, f"{ATTEMPTS_STREAM} {entry_id.decode()}")
        for entry_id, flat in rows
        if subject.encode() in flat
    ]
    return [each for each in found if each is not None]
