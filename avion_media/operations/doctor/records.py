"""Stored records: whether this version can read them."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import LOST_BUCKET
from avion_media.common import keys
from avion_media.common.errors import ObjectMissing, Unavailable
from avion_media.common.records import Record, UnreadableRecord
from avion_media.items.deletion.journal import JOURNAL
from avion_media.items.moderation.records import BLOCK, HELD
from avion_media.items.private.revocations import REVOCATION
from avion_media.items.private.token_keys import TOKEN_KEYS
from avion_media.items.state.sweep_state import SweepState
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from avion_media.operations.doctor.trial import Trial
from avion_media.process.replicas import Replicas
from trio_redis import run_all

IN_BUCKET: Final = Checks[Trial](Area.STORE)
OF_PROCESSES: Final = Checks[Redis](Area.REDIS)
_READ: Final = 1000  # of each kind: the first ones
_AT_ONCE: Final = 16
_MAX_BYTES: Final = 16 << 20
_IMPACT = (
    "the service skips these records: deletions, blocks or reviews in them do not count until they can be read, and"
    " private media refuse tokens"
)
_KINDS: Final[dict[str, Record[Any]]] = {
    keys.BLOCK_PREFIX: BLOCK,
    keys.HELD_PREFIX: HELD,
    keys.DELETION_JOURNAL_PREFIX: JOURNAL,
    keys.UNREADABLE_JOURNAL_PREFIX: JOURNAL,
    keys.REVOCATION_PREFIX: REVOCATION,
    keys.TOKEN_SECRET: TOKEN_KEYS,
}


@IN_BUCKET.add("its records can be read", _IMPACT, CheckStatus.WARNING)
async def _in_bucket(trial: Trial) -> str:
    unreadable: dict[str, str] = {}

    async def read(key: str, record: Record[Any]) -> None:
        try:
            body = await trial.store.read(key, max_bytes=_MAX_BYTES)
            for each in body.splitlines() if record is JOURNAL else [body]:
                record.read(each, key)
        except UnreadableRecord as error:
            unreadable[key] = error.why
        except ObjectMissing:
            pass  # removed meanwhile

    count = 0
    for prefix, record in _KINDS.items():
        found: list[str] = await anext(trial.store.list_keys(prefix, page_size=_READ), [])
        await run_all([partial(read, key, record) for key in found], _AT_ONCE)
        count += len(found)
    return _verdict(unreadable, f"{count} read")


@IN_BUCKET.add(
    "has the media that the last sweep counted",
    f"if the bucket was emptied or created anew, stop all replicas and follow {LOST_BUCKET}",
    CheckStatus.WARNING,
)
async def _still_there(trial: Trial) -> str:
    redis = trial.settings.redis
    try:
        async with open_redis(redis.url, timeout_s=redis.timeout) as opened:
            counted = (await SweepState(opened).read()).originals
    except Unavailable:
        return "not compared, because Redis is not available"
    found = len(await anext(trial.store.list_keys(keys.ORIGINAL_PREFIX, page_size=_READ), []))
    if found < min(counted, _READ) / 2:
        raise CheckFailed(f"{found} are left of {counted:,}")
    return ""


@OF_PROCESSES.add("no process found unreadable records", _IMPACT, CheckStatus.WARNING)
async def _of_processes(redis: Redis) -> str:
    unreadable: dict[str, str] = {}
    for each in await Replicas(redis).read(time.time()):
        unreadable |= each.unreadable
    return _verdict(unreadable, "")


def _verdict(unreadable: dict[str, str], detail: str) -> str:
    if unreadable:
        raise CheckFailed("; ".join(f"{key}: {why}" for key, why in unreadable.items()))
    return detail
