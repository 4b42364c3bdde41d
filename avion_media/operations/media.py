"""What operators do to media items and to the block lists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from avion_media.common.ids import AnyId, MediaId, parse_any_id
from avion_media.common.records import UnreadableRecord
from avion_media.common.tasks import ALWAYS, DROP_DELETED, PROCESSING_QUEUE, REGENERATE, processing_fields
from avion_media.items.deletion import undelete
from avion_media.items.moderation import Blocklists, Entry, InvalidEntry, NotBlocked, NotHeld, Unwanted, parse_entry
from avion_media.items.private.token_keys import TooManyKeys
from avion_media.operations.operation import (
    Facts,
    InvalidTarget,
    NoSuchTarget,
    Order,
    Outcome,
    Refused,
    Step,
    media_and_owners,
)
from avion_media.process.runtime import Runtime


async def delete(runtime: Runtime, order: Order) -> Outcome:
    """Delete as the post service does: by events on the stream `drop_deleted`, each with a page of media."""
    done: dict[str, Facts] = {}
    problems: dict[str, Exception] = {}
    async for ids in _pages(runtime, order, problems):
        event = json.dumps({"media_ids": list(map(str, ids))})
        # Trims nothing: the stream belongs to the producer, and can hold deletions that no replica has read yet.
        await runtime.items.redis.execute("XADD", DROP_DELETED, "*", "event", event)
        done |= {str(each): {} for each in ids}
    return Outcome(done, problems)


async def restore(runtime: Runtime, order: Order) -> Outcome:
    """Undo deletions."""
    done: dict[str, Facts] = {}
    problems: dict[str, Exception] = {}
    async for ids in _pages(runtime, order, problems, only_deleted=True):
        for media_id, problem in (await undelete(runtime.replay, ids)).items():
            if problem is None:
                done[media_id] = {}
            else:
                problems[media_id] = Refused(str(problem))
    return Outcome(done, problems)


async def _pages(
    runtime: Runtime, order: Order, problems: dict[str, Exception], *, only_deleted: bool = False
) -> AsyncIterator[list[AnyId]]:
    """Yield the media that the targets name, then the media of owners page by page. Add to ``problems``.

    ``only_deleted``: of owners, yield those that are deleted.
    """
    ids, owners, invalid = media_and_owners(order.targets)
    problems |= invalid
    if ids:
        yield ids
    for owner in owners:
        async for page in runtime.items.owners.media(owner):
            found: list[AnyId] = [each.media_id for each in page]
            if only_deleted:
                known = await runtime.replay.records.get_many(list(map(str, found)))
                found = [each for each in found if str(each) in known and known[str(each)].is_deleted]
            if found:
                yield found


async def block(runtime: Runtime, order: Order, target: str) -> Facts:
    """Block a media item and its known copies."""
    why = Unwanted(
        by=order.who.name,
        note=order.note,
        discard_evidence=order.discard_evidence,
        ground=order.ground,
        requested_at=order.requested_at,
        automated=order.automated,
    )
    with _explained():
        return {"copies": await runtime.moderation.blocking.block(parse_any_id(target), why)}


async def refuse(runtime: Runtime, order: Order, target: str) -> Facts:
    """Block a media item that waits for a moderator."""
    with _explained():
        await runtime.moderation.reviews.require(parse_any_id(target))
    return await block(runtime, order, target)


async def unblock(runtime: Runtime, order: Order, target: str) -> None:
    """Lift a block, and the blocks of its copies."""
    with _explained():
        await runtime.moderation.blocking.unblock(parse_any_id(target), order.who.name, order.note)


async def release(runtime: Runtime, order: Order, target: str) -> None:
    """Let a held media item be published."""
    held, hosts = await runtime.moderation.records.held(target), runtime.moderation.hosts
    if held is not None and held.host:
        await hosts.refresh()
        if hosts.is_blocked(held.host):
            raise Refused(f"its host {held.host} is blocked: unblock the host first, or block the media item")
    with _explained():
        await runtime.moderation.reviews.release(parse_any_id(target), order.who.name)


async def look(runtime: Runtime, _order: Order, target: str) -> Facts:
    """Return the picture that is kept of a held or blocked media item."""
    picture = await runtime.moderation.evidence.preview(parse_any_id(target))
    if picture is None:
        raise NoSuchTarget("nothing is kept of it that could be shown")
    return {"picture": picture}


async def process_again(runtime: Runtime, _order: Order, target: str) -> Facts:
    """Queue a task that makes the thumbnails of a published upload again."""
    any_id = parse_any_id(target)
    if not isinstance(any_id, MediaId):
        raise Refused("a remote file is fetched again when it is requested after its time to live")
    if await runtime.items.published(any_id) is None:
        raise Refused("it is not published")
    fields = processing_fields(str(any_id)) | {REGENERATE: ALWAYS}
    return {"task_id": await runtime.items.queues[PROCESSING_QUEUE].enqueue(fields)}


async def rotate_tokens(runtime: Runtime, _order: Order, _target: str) -> Facts:
    """Add a key that signs the tokens of private media."""
    try:
        return {"number": (await runtime.private.keyring.rotate()).number}
    except TooManyKeys as error:
        raise Refused(str(error)) from error


def on_own_entry(take: Callable[[Blocklists, Entry], Awaitable[bool]], otherwise: str) -> Step:
    """Return the step that adds or removes an entry of the own list, given as a line of it."""

    async def step(runtime: Runtime, _order: Order, target: str) -> None:
        try:
            entry = parse_entry(target)
        except InvalidEntry as error:
            raise InvalidTarget(str(error)) from None
        if not await take(runtime.moderation.lists, entry):
            raise Refused(otherwise)

    return step


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the state of a media item does not allow into a problem of its target."""
    try:
        yield
    except NotBlocked as error:
        raise Refused("it is not blocked") from error
    except NotHeld as error:
        raise Refused("it does not wait for a moderator") from error
    except UnreadableRecord as error:
        raise Refused(f"its {error.kind} record cannot be read: {error.why}") from error
