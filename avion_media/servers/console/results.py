"""What an action of the console did, for the page that the browser shows next. Kept for minutes, for all replicas."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

from avion_media.backends.redis import Redis
from avion_media.common.records import JsonRecord

_KEY: Final = "media_console_result:"
_KEPT_S: Final = 600
_ID: Final = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class ActionResult:
    """The result of an action in sentences, and whether all of it was done."""

    action: str
    text: str
    is_whole: bool


RESULT: Final = JsonRecord("console_result", ActionResult, f"{_KEY}<id>", "the console, for ten minutes")


async def keep_result(redis: Redis, result: ActionResult) -> str:
    """Store a result. Return its id. Raises `Unavailable`."""
    result_id = secrets.token_hex(8)
    await redis.execute("SET", f"{_KEY}{result_id}", RESULT.write(result), "EX", _KEPT_S, when_full=True)
    return result_id


async def find_result(redis: Redis, result_id: str) -> ActionResult | None:
    """Return a result; None if there is none with this id. Raises `Unavailable`."""
    if not _ID.fullmatch(result_id):
        return None
    raw = await redis.execute("GET", f"{_KEY}{result_id}")
    return None if raw is None else RESULT.read_or_skip(raw, f"{_KEY}{result_id}")
