"""The last attempts at tasks of all workers, with their steps, for the page of a media item; and how many ended how.

The stream is bounded, and the log is the record that is kept. A worker writes after the end of an attempt, once, and
goes on if Redis does not take it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from avion_media.backends.redis import Redis, as_text
from avion_media.common.records import HashRecord
from avion_media.common.tasks import PROCESSING_QUEUE

ATTEMPTS_STREAM: Final = "media_attempts"
KEPT: Final = 2000
REJECTED: Final = "rejected"
READY_BOUNDS_S: Final = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, math.inf)
"""The bounds between which times to ready are counted: from the completed upload to the end of its processing."""
_OUTCOMES: Final = "media_outcomes"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. ``subject`` is the id of the media item. ``age_s``: time from the first queueing of the task to the
    end of the attempt. ``steps``: what took time, each as name, start and duration in ms after the start of the
    attempt, separated by tabs, one per line."""

    subject: str = ""
    queue: str = ""
    task_id: str = ""
    number: int = 0
    worker: str = ""
    began_at: float = 0.0  # Unix seconds
    duration_s: float = 0.0
    age_s: float = 0.0
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
    if attempt.outcome == "done" and attempt.queue == PROCESSING_QUEUE:
        bound = next(each for each in READY_BOUNDS_S if attempt.age_s <= each)
        await redis.execute("HINCRBY", _OUTCOMES, ready_within(bound), 1)
    elif attempt.outcome == REJECTED:
        await redis.execute("HINCRBY", _OUTCOMES, REJECTED, 1)


def ready_within(bound_s: float) -> str:
    """Return the name of the number of uploads that were ready within this bound, but not within the one before."""
    return f"ready:{bound_s:g}"


async def outcomes(redis: Redis) -> dict[str, int]:
    """Return how often attempts ever ended in the ways that are counted. Raises `Unavailable`."""
    return {name: int(number) for name, number in as_text(await redis.execute("HGETALL", _OUTCOMES)).items()}


async def attempts_at(redis: Redis, subject: str) -> list[Attempt]:
    """Return the known attempts at tasks of a media item, oldest first. Raises `Unavailable`."""
    rows = await redis.execute("XRANGE", ATTEMPTS_STREAM, "-", "+")
    found = [
        ATTEMPT.read_or_skip({**as_text(flat), "entry_id": entry_id.decode()}, f"{ATTEMPTS_STREAM} {entry_id.decode()}")
        for entry_id, flat in rows
        if subject.encode() in flat
    ]
    return [each for each in found if each is not None]
