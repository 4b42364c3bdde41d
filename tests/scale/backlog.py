"""Backlogs of any size, written by scripts on the server: a million entries take seconds."""

from __future__ import annotations

import time
from typing import Any, Final

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id

BACKLOG_AGE_S: Final = 7200.0  # of the oldest task
_BATCH = 10_000
_PREFIX = str(new_media_id(JPEG, int((time.time() - BACKLOG_AGE_S) * 1000)))[:18]

# Entries one millisecond apart, with the contract's fields.
_TASKS = """
for number = ARGV[1], ARGV[2] do
  redis.call('XADD', KEYS[1], string.format('%.0f-0', ARGV[3] + number),
    'task_id', 't' .. number, 'media_id', ARGV[4] .. string.format('%08d', number), 'type', 'thumbnail')
end
"""
_DELAYED = """
for number = ARGV[1], ARGV[2] do
  redis.call('ZADD', KEYS[1], ARGV[3] + number,
    string.format('["task_id","drop:%s%08d","media_id","%s%08d"]', ARGV[4], number, ARGV[4], number))
end
"""
_DEAD_LETTERS = """
for number = ARGV[1], ARGV[2] do
  redis.call('XADD', KEYS[1], '*', 'task_id', 't' .. number, 'media_id', ARGV[4] .. string.format('%08d', number),
    'type', 'thumbnail', 'error', 'internal: out of luck', 'attempts', 5, 'failed_at', ARGV[3])
end
"""


def media_id(number: int) -> str:
    """Return the media id of a task in a backlog. Nothing was uploaded for it."""
    return f"{_PREFIX}{number:08d}"


def fill_queue(client: Any, queue: str, count: int) -> None:
    """Queue ``count`` tasks; the oldest is `BACKLOG_AGE_S` old."""
    _fill(client, _TASKS, queue, count, (time.time() - BACKLOG_AGE_S) * 1000)


def fill_delayed(client: Any, key: str, count: int) -> None:
    """Delay ``count`` deletions, due from tomorrow on."""
    _fill(client, _DELAYED, key, count, time.time() + 86_400)


def fill_dead_letters(client: Any, key: str, count: int) -> None:
    """Write ``count`` dead letters."""
    _fill(client, _DEAD_LETTERS, key, count, time.time())


def _fill(client: Any, script: str, key: str, count: int, argument: float) -> None:
    for first in range(0, count, _BATCH):
        client.eval(script, 1, key, first, min(first + _BATCH, count) - 1, f"{argument:.3f}", _PREFIX)
