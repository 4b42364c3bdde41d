"""What operators do to remote hosts."""

from __future__ import annotations

from dataclasses import replace

from avion_media.backends.queue import BulkJobs
from avion_media.common.tasks import DELETE_QUEUE
from avion_media.items.moderation import BlockedHost, HostNotBlocked, InvalidHost, parse_host
from avion_media.operations.operation import Facts, InvalidTarget, Order, Refused
from avion_media.process.runtime import Runtime


async def block(runtime: Runtime, order: Order, target: str) -> Facts:
    """Block a host, and count its copies. With ``order.purge`` a bulk job removes them."""
    wanted = _parse(target)
    await runtime.moderation.hosts.block(replace(wanted, note=order.note, by=order.who.name))
    return await _purge(runtime, order, wanted) if order.purge else await _count(runtime, wanted)


async def unblock(runtime: Runtime, _order: Order, target: str) -> None:
    """Remove the block of a host."""
    try:
        await runtime.moderation.hosts.unblock(_parse(target).host)
    except HostNotBlocked as error:
        raise Refused("it is not blocked, or only by REMOTE__DENY_HOSTS") from error


async def purge(runtime: Runtime, order: Order, target: str) -> Facts:
    """Begin to remove the copies of a host."""
    return await _purge(runtime, order, _parse(target))


async def _purge(runtime: Runtime, order: Order, wanted: BlockedHost) -> Facts:
    counted = await _count(runtime, wanted)
    jobs = BulkJobs(runtime.items.redis, DELETE_QUEUE)
    job = await jobs.begin_purge([wanted.name], rate=order.rate, by=order.who.name, total=counted["found"])
    return {**counted, "job": job.name}


async def count_copies(runtime: Runtime, target: str) -> int:
    """Return how many copies a host has, with those below it if the target covers them. Raises `InvalidTarget`."""
    found: int = (await _count(runtime, _parse(target)))["found"]
    return found


async def _count(runtime: Runtime, wanted: BlockedHost) -> Facts:
    index = runtime.items.hosts
    hosts = [wanted.host] if wanted.exact else [each async for each in index.hosts(wanted.covers)]
    return {
        "host": wanted.host,
        "exact": wanted.exact,
        "found": sum([(await index.usage(each)).count for each in hosts]),
    }


def _parse(target: str) -> BlockedHost:
    try:
        return parse_host(target)
    except InvalidHost as error:
        raise InvalidTarget(str(error)) from None
