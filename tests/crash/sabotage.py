"""Ways to break the service on purpose, one promise each. The checker must notice all of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any


def _edit_scripts(old: str, new: str) -> None:
    from avion_media.backends.queue import scripts
    from avion_media.backends.redis import Script

    edited = 0
    for script in vars(scripts).values():
        if isinstance(script, Script) and old in script.source:
            edited += 1
            script.source = script.source.replace(old, new)
            script.sha1 = hashlib.sha1(script.source.encode(), usedforsecurity=False).hexdigest()
    assert edited, old


def no_fence() -> None:
    """Every worker that asks owns an entry."""
    _edit_scripts(
        "return row ~= nil and row[2] == consumer and row[4] == tonumber(deliveries)",
        "return true",
    )
    _edit_scripts("if rows.err then\n    return false", "if rows.err then\n    return true")
    # A task that was reclaimed is a new entry, so that renewing the former one finds nothing.
    _edit_scripts("ARGV[6], 'JUSTID') == 0 then", "ARGV[6], 'JUSTID') < 0 then")


def early_acknowledgement() -> None:
    """Acknowledge a task before its work."""
    from avion_media.backends.queue import Lease
    from avion_media.workers.consumer import Consumer

    attempt: Any = Consumer._attempt

    async def acknowledge_first(self: Any, held: Any) -> tuple[str, str]:
        await held.lease.complete()
        held.lease._ended = False
        result: tuple[str, str] = await attempt(self, held)
        return result

    async def keep(_self: Any) -> None:
        """Renew nothing."""

    consumer: Any = Consumer
    lease: Any = Lease
    consumer._attempt = acknowledge_first
    lease.renew = keep


def group_at_the_end() -> None:
    """Create a missing group at the end of the stream."""
    _edit_scripts(
        "'XGROUP', 'CREATE', queue, group, '0', 'MKSTREAM'", "'XGROUP', 'CREATE', queue, group, '$', 'MKSTREAM'"
    )


def consumer_removed_with_its_tasks() -> None:
    """Remove consumers at once, those with pending tasks."""
    from avion_media.backends.queue import consumers

    read = consumers.read_consumers

    async def read_as_idle(*of_group: Any) -> list[dict[bytes, Any]]:
        return [row | {b"pending": 0, b"idle": 1 << 40} for row in await read(*of_group) if row[b"pending"]]

    consumers.read_consumers = read_as_idle  # type: ignore[assignment]
    _edit_scripts("#held == 0 and not held.err", "not held.err")


def no_tombstone() -> None:
    """Let a notice only queue the removal, without a mark."""
    from avion_media.items.deletion import DeletionRecords, Mark

    async def unmarked(_self: Any, media_ids: Any, *, delay_s: float, **_more: Any) -> list[Mark]:
        now_ms = round(time.time() * 1000)
        return [Mark(each, now_ms, now_ms + round(delay_s * 1000), False) for each in media_ids]

    DeletionRecords.mark = unmarked  # type: ignore[method-assign, assignment]


def no_evidence() -> None:
    """Remove the files of a blocked media item without a copy."""
    from avion_media.items.moderation.evidence import Evidence

    async def keep(_self: Any, _any_id: Any, _sizes: Any) -> None:
        """Keep nothing."""

    Evidence.keep = keep  # type: ignore[method-assign, assignment]


def no_revocation() -> None:
    """Record a revocation in the bucket alone, where no origin looks."""
    from avion_media.items.private.revocations import Revocations

    async def keep(_self: Any, _revocations: Any) -> None:
        """Publish nothing."""

    Revocations.publish = keep  # type: ignore[method-assign, assignment]


def no_block_of_hosts() -> None:
    """Acknowledge the block of a host, and fetch from it."""
    from avion_media.items.moderation.hosts import BlockedHosts

    BlockedHosts.is_blocked = lambda _self, _host: False  # type: ignore[method-assign, assignment]


def no_webhook() -> None:
    """Read an event, and queue no task for it."""
    from avion_media.workers.webhooks import Webhooks

    async def drop(_self: Any, _queue: Any, _event: Any, _published_at: float) -> None:
        """Queue nothing."""

    Webhooks.queue = drop  # type: ignore[method-assign, assignment]


SABOTAGES: dict[str, Callable[[], None]] = {
    "no fence": no_fence,
    "early acknowledgement": early_acknowledgement,
    "group at the end": group_at_the_end,
    "consumer removed with its tasks": consumer_removed_with_its_tasks,
    "no tombstone": no_tombstone,
    "no evidence": no_evidence,
    "no revocation": no_revocation,
    "no block of hosts": no_block_of_hosts,
    "no webhook": no_webhook,
}
