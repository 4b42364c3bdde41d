"""Real handlers on a real Redis and a store in memory, stopped before and after each of their calls to either."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import md5, sha256
from tempfile import TemporaryFile
from typing import Any, cast

import redis as redis_py
import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.store import FileSource, ListedObject, ObjectInfo, ObjectPart, ObjectStore
from avion_media.common import keys
from avion_media.common.concurrency import RateLimiter
from avion_media.common.errors import (
    Dependency,
    LeaseLost,
    ObjectMissing,
    PreconditionFailed,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.common.formats import PNG, MediaFormat
from avion_media.common.ids import AnyId, MediaId, new_media_id
from avion_media.common.media import CredentialsState, MediaFacts
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import DELETE_QUEUE, EVENTS_STREAM, PROCESSING_QUEUE, EnsureLease, Task
from avion_media.config import Config
from avion_media.items.deletion import DeletionJournal, JournalReplay, Notice, NoticeHandler, RemoveDeleted, undelete
from avion_media.items.item import Items
from avion_media.items.moderation import Likeness, Moderation, Unwanted
from avion_media.items.settings import CdnConfig
from avion_media.media.pipeline import MediaPipeline, MediaSource, Processed
from avion_media.media.settings import UploadConfig
from avion_media.nodes.moderation import Looks
from avion_media.process.runtime import Observed
from avion_media.workers.process_media import ProcessMedia
from avion_media.workers.processor import Processor
from avion_media.workers.sweep.checks import watch_blocked
from mediathumbs import ThumbnailSize
from tests.remote_ids import knowing

PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)
SIZES = (ThumbnailSize("small", 400), ThumbnailSize("large", 1600))
SERVED = 3 + len(SIZES)  # objects of a public media item
Act = Callable[[], Awaitable[object]]


async def in_hand() -> None:
    """No other worker takes the task over."""


class Killed(BaseException):
    """Ends an actor at once, like SIGKILL: no handler of the service catches it."""


class Steps:
    """Counts the moments before and after each call of one actor, and runs actions at some of them.

    ``acts`` are by number or name. An action by name runs at each moment of that name.

    An actor that was killed makes no more calls, not even those with which its code would clean up.
    """

    def __init__(self, acts: Mapping[int, Act] | Mapping[str, Act] | None = None) -> None:
        self.count = 0
        self.names: list[str] = []
        self._acts: Mapping[Any, Act] = acts or {}
        self._killed = False

    @property
    def before_calls(self) -> list[int]:
        """The moments before each call, and the last one. After a call, all is as it is before the next."""
        return [*(moment for moment, name in enumerate(self.names) if name.startswith("before ")), self.count - 1]

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._moment(f"before {name}")
        result = await call()
        await self._moment(f"after {name}")
        return result

    async def _moment(self, name: str) -> None:
        if self._killed:
            raise Killed
        moment, self.count = self.count, self.count + 1
        self.names.append(name)
        act = self._acts.get(moment) or self._acts.get(name)
        if act is not None:
            # Shielded, because the actor's death must not interrupt others. Bounded by the timeouts of Redis.
            with trio.CancelScope(shield=True):
                try:
                    await act()
                except Killed:
                    self._killed = True
                    raise


@dataclass(frozen=True)
class Stored:
    data: bytes
    content_type: str
    metadata: dict[str, str]
    written: datetime

    def info(self, key: str) -> ObjectInfo:
        etag = md5(self.data, usedforsecurity=False).hexdigest()
        return ObjectInfo(key, len(self.data), etag, self.written, self.content_type, self.metadata)


@dataclass
class _Pages:
    """A listing of a `MemoryStore`."""

    objects: dict[str, Stored]
    steps: Steps
    prefix: str
    after: str
    page_size: int

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> tuple[ListedObject, ...]:
        page = cast("list[ObjectInfo]", await self.steps.around(f"list {self.prefix}", self._look))
        if not page:
            raise StopAsyncIteration
        self.after = page[-1].key
        return tuple(ListedObject(each.key, each.size_bytes, each.etag, each.last_modified) for each in page)

    async def _look(self) -> list[ObjectInfo]:
        found = sorted(key for key in self.objects if key.startswith(self.prefix) and key > self.after)
        return [self.objects[key].info(key) for key in found[: self.page_size]]


@dataclass
class _KeyPages:
    """The keys of a listing."""

    pages: _Pages

    def __aiter__(self) -> _KeyPages:
        return self

    async def __anext__(self) -> list[str]:
        return [each.key for each in await anext(self.pages)]


class MemoryStore:
    """The part of `ObjectStore` that the handlers use, for one actor. Several can share ``objects``."""

    def __init__(self, objects: dict[str, Stored], steps: Steps) -> None:
        self._objects = objects
        self._steps = steps

    async def read(self, key: str, *, max_bytes: int) -> bytes:
        async def fetch() -> bytes:
            return self._find(key).data[:max_bytes]

        return cast("bytes", await self._steps.around(f"read {key}", fetch))

    async def read_part(self, key: str, *, max_bytes: int) -> ObjectPart:
        async def fetch() -> ObjectPart:
            found = self._find(key)
            return ObjectPart(found.info(key), None, found.data[:max_bytes])

        return cast("ObjectPart", await self._steps.around(f"read {key}", fetch))

    async def head(self, key: str) -> ObjectInfo:
        async def look() -> ObjectInfo:
            return self._find(key).info(key)

        return cast("ObjectInfo", await self._steps.around(f"head {key}", look))

    async def exists(self, key: str) -> bool:
        return await ObjectStore.exists(cast("ObjectStore", self), key)

    async def download(self, key: str, fd: int, *, max_bytes: int, if_match: str | None = None) -> ObjectInfo:
        async def fetch() -> ObjectInfo:
            found = self._find(key)
            if if_match is not None and found.info(key).etag != if_match:
                raise PreconditionFailed(key)
            os.pwrite(fd, found.data, 0)
            return found.info(key)

        return cast("ObjectInfo", await self._steps.around(f"get {key}", fetch))

    async def put(
        self,
        key: str,
        source: bytes | FileSource,
        *,
        content_type: str,
        metadata: dict[str, str] | None = None,
        only_if_absent: bool = False,
        if_match: str | None = None,
    ) -> str:
        async def write() -> str:
            present = self._objects[key].info(key).etag if key in self._objects else None
            if (only_if_absent and present is not None) or (if_match is not None and if_match != present):
                raise PreconditionFailed(key)
            data = source if isinstance(source, bytes) else os.pread(source.fd, source.size_bytes, source.offset)
            self._objects[key] = Stored(data, content_type, metadata or {}, datetime.now(UTC))
            return self._objects[key].info(key).etag

        return cast("str", await self._steps.around(f"put {key}", write))

    async def copy(
        self, source_key: str, target_key: str, *, content_type: str, metadata: dict[str, str], source_etag: str
    ) -> str:
        async def write() -> str:
            found = self._find(source_key)
            if found.info(source_key).etag != source_etag:
                raise PreconditionFailed(source_key)
            self._objects[target_key] = Stored(found.data, content_type, metadata, datetime.now(UTC))
            return source_etag

        return cast("str", await self._steps.around(f"copy {source_key}", write))

    def list_keys(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> _KeyPages:
        return _KeyPages(self.list(prefix, start_after, page_size=page_size))

    def list(self, prefix: str, start_after: str | None = None, *, page_size: int = 1000) -> _Pages:
        return _Pages(self._objects, self._steps, prefix, start_after or "", page_size)

    async def delete(self, to_delete: Sequence[str]) -> None:
        async def remove() -> None:
            for key in to_delete:
                self._objects.pop(key, None)

        await self._steps.around("delete", remove)

    def _find(self, key: str) -> Stored:
        if key not in self._objects:
            raise ObjectMissing(key)
        return self._objects[key]


@dataclass(frozen=True)
class Bench:
    """A pipeline that accepts everything as a picture, without decoding it."""

    sizes: Sequence[ThumbnailSize]

    async def process(
        self,
        source: MediaSource,
        fmt: MediaFormat,
        files: ExitStack,
        accept: Callable[[MediaFormat], None] | None = None,
        *,
        keep_credentials: bool = False,
    ) -> Processed:
        data = os.pread(source.fd, source.size_bytes, 0)
        scrubbed = files.enter_context(TemporaryFile(buffering=0))  # noqa: SIM115 - the stack closes it
        scrubbed.write(data)
        return Processed(
            fmt,
            10,
            10,
            "blur",
            {size.name: thumbnail_of(data) for size in self.sizes},
            scrubbed_fd=scrubbed.fileno(),
            scrubbed_bytes=len(data),
            sha256=sha256(data).hexdigest(),
            credentials=CredentialsState.BESIDE_FILE,
            manifest=manifest_of(data),
        )


def thumbnail_of(data: bytes) -> bytes:
    """Return the thumbnail that `Bench` makes."""
    return b"jpeg" + data[-1:]


def manifest_of(data: bytes) -> bytes:
    """Return the content credentials that `Bench` finds."""
    return b"jumb" + data[-1:]


def _new_id() -> MediaId:
    return new_media_id(PNG, int(datetime.now(UTC).timestamp() * 1000))


@dataclass
class Stage:
    """One media item, and its actors. Actors that are not under test have steps of their own.

    ``sizes`` are those of the configuration. An actor keeps those of the time when it began.
    """

    client: Any  # redis-py's types cover options that no test here uses
    redis: Redis
    delay_s: float = 0.0
    sizes: tuple[ThumbnailSize, ...] = SIZES
    cdn: CdnConfig = field(default_factory=CdnConfig)
    moderated: bool = False
    config: Config = field(default_factory=Config)  # of moderation
    pdq: bytes | None = None  # the hash of every picture; None for too little structure
    media_id: MediaId = field(default_factory=_new_id)
    objects: dict[str, Stored] = field(default_factory=dict)
    journaled: dict[str, Stored] = field(default_factory=dict)
    worker: Moderation | None = None  # of the latest attempt

    async def publish_copy(self) -> Stage:
        """Publish the same file as another media item of the same bucket."""
        copy = replace(self, media_id=_new_id())
        copy.objects[keys.incoming(copy.media_id)] = self.objects[keys.original(self.media_id)]
        await copy.process()
        return copy

    def upload(self, mark: bytes = b"1", head: bytes = PNG_HEAD) -> None:
        """PUT a body, as a client does. Another mark makes another content."""
        self.objects[keys.incoming(self.media_id)] = Stored(head + mark, "image/png", {}, datetime.now(UTC))

    def write(self, key: str, body: bytes) -> None:
        """Write an object, as an operator does."""
        self.objects[key] = Stored(body, "text/csv", {}, datetime.now(UTC))

    async def process(self, steps: Steps | None = None, ensure_lease: EnsureLease = in_hand) -> None:
        """Run the upload's task to its end, as the consumer does."""
        await self._attempt(Task("task", {"media_id": str(self.media_id)}), steps or Steps(), ensure_lease)

    async def process_once(self) -> None:
        """The same, but without another attempt after an outage."""
        await self._attempt(Task("task", {"media_id": str(self.media_id)}), Steps(), in_hand, again=False)

    async def process_queued(self) -> None:
        """Run all queued tasks, each to its end."""
        queue = TaskQueue(self.redis, PROCESSING_QUEUE)
        while (lease := await queue.take("worker", block_s=0)) is not None:
            await self._attempt(lease.task, Steps(), lease.renew)
            await lease.complete()

    async def record_failure(self, reason: Reason, *, is_file_suspect: bool = False) -> None:
        """Let the upload's task end with this failure."""
        task = Task("task", {"media_id": str(self.media_id)})
        await self._processing(Steps()).record_failure(task, reason, is_file_suspect=is_file_suspect)

    async def _attempt(self, task: Task, steps: Steps, ensure_lease: EnsureLease, *, again: bool = True) -> None:
        handler = self._processing(steps)
        try:
            await handler.run(task, ensure_lease)
        except Rejected as rejection:
            await handler.record_failure(task, rejection.reason)
        except LeaseLost:
            pass
        except Unavailable:
            if again:
                await self._attempt(task, steps, ensure_lease)

    def _processing(self, steps: Steps) -> ProcessMedia:
        pipeline = slot_of(Dependency.SANDBOX, cast("MediaPipeline", Bench(self.sizes)))
        return ProcessMedia(
            Processor(self.items(steps), self.screening(steps), pipeline, UploadConfig(), frozenset({"png"}))
        )

    def items(self, steps: Steps | None = None) -> Items:
        """Return the media items as another process has them."""
        steps = steps or Steps()
        store = slot_of(Dependency.STORE, cast("ObjectStore", MemoryStore(self.objects, steps)))
        redis, cdn = stepped(self.redis, steps), self.cdn.purges
        return knowing(Items(store, redis, self.sizes, status_ttl_s=600.0, cdn=cdn))

    def screening(self, steps: Steps) -> Moderation:
        """Return the moderation of a worker that begins an attempt."""
        if not self.moderated:
            return cast("Moderation", NothingAgainst(self.items(steps)))
        self.worker = self.moderation(steps)
        return self.worker

    def moderation(self, steps: Steps | None = None) -> Moderation:
        """Return the moderation of another process."""
        return Moderation(self.items(steps), self.config, cast("Likeness", _Likeness(self.pdq)))

    async def block(self, steps: Steps | None = None, any_id: AnyId | None = None) -> None:
        """Block the media item (or another one) as a moderator, with its evidence."""
        why = Unwanted(by="moderator")
        await self.moderation(steps or Steps()).blocking.block(any_id or self.media_id, why)

    async def hear(self) -> None:
        """Let the worker's process read the lists again, as its node `moderation` does after each message."""
        if self.worker is not None:
            with suppress(RuntimeError):  # the worker itself is reading them
                await self.worker.lists.reload()

    async def release(self, steps: Steps | None = None, any_id: AnyId | None = None) -> None:
        """Release the held media item (or another one) as a moderator."""
        await self.moderation(steps or Steps()).reviews.release(any_id or self.media_id, "moderator")

    async def waiting(self) -> set[str]:
        """Return the ids of the media that wait for a moderator."""
        return {held.media_id for held in await self.moderation(Steps()).reviews.waiting()}

    async def enforce(self, steps: Steps | None = None) -> None:
        """Do what a worker does that has written the media item, and then finds it blocked; in one attempt."""
        with suppress(Unavailable):
            await self.moderation(steps or Steps()).blocking.enforce(self.media_id)

    async def unblock(self, steps: Steps | None = None) -> None:
        """Unblock the media item."""
        await self.moderation(steps or Steps()).blocking.unblock(self.media_id)

    async def resume_blocks(self, steps: Steps | None = None) -> None:
        """Let another process finish begun blocks, after the claims of the first have ended."""
        self.end_claims()
        await self.resume_with_claims(steps)

    async def resume_with_claims(self, steps: Steps | None = None) -> None:
        """The same, while the claims of a killed process may last."""
        await self.moderation(steps or Steps()).blocking.resume(abandoned_only=False)

    def end_claims(self) -> None:
        """Let the claims of killed processes end."""
        for claim in self.client.scan_iter("media_block_claim:*"):
            self.client.delete(claim)

    async def is_blocked_despite_objects(self) -> bool:
        """Return whether an origin that has read the index answers 451."""
        room = self.moderation()
        await room.status.reload()
        return await room.status.is_blocked_despite_objects(str(self.media_id))

    async def sweep(self) -> None:
        """Compare the bucket with the blocks, as the sweep does."""
        await watch_blocked(self.items().store, RateLimiter(1e6), [str(self.media_id)])

    async def look(self, observed: Observed, steps: Steps) -> bool:
        """Look at the bucket once, as the node `moderation` does."""
        return await Looks(self.moderation(steps), observed, reload_s=60.0, path="moderation").once()

    async def delete(self, entry_id: str = "", steps: Steps | None = None) -> None:
        """Process a notice of ``drop_deleted``: received on the channel now, or read from the stream."""
        handler = NoticeHandler(self.replay(steps), self.delay_s)
        now_ms = int(float(self.client.time()[0]) * 1000) + 1000
        await handler.handle(Notice((str(self.media_id),), entry_id, lower_bound_ms=None if entry_id else now_ms))

    async def undelete(self, steps: Steps | None = None) -> str | None:
        """Undelete the media item. Return the problem, if there is one."""
        problem = (await undelete(self.replay(steps), [self.media_id]))[str(self.media_id)]
        return None if problem is None else str(problem)

    def journal(self, steps: Steps | None = None) -> DeletionJournal:
        """Return the journal of deletions, on a store of its own."""
        store = MemoryStore(self.journaled, steps or Steps())
        return DeletionJournal(slot_of(Dependency.STORE, cast("ObjectStore", store)), self.delay_s)

    def replay(self, steps: Steps | None = None, wait_s: float = 2.0) -> JournalReplay:
        """Return the replay of that journal."""
        steps = steps or Steps()
        buckets = [str(self.media_id)[-2:]]
        return JournalReplay(self.items(steps), self.journal(steps), buckets=buckets, wait_s=wait_s)

    async def remove(self, steps: Steps | None = None) -> None:
        """Run all due removals, each to its end."""
        handler = RemoveDeleted(self.replay(steps), removed_ttl_s=600.0)
        queue = TaskQueue(self.redis, DELETE_QUEUE)
        await queue.promote()
        while (lease := await queue.take("remover", block_s=0)) is not None:
            await handler.run(lease.task, lease.renew)
            await lease.complete()

    def events(self) -> list[str]:
        """Return the types of all events about the media item, in order."""
        written = [json.loads(fields["event"]) for _, fields in self.client.xrange(EVENTS_STREAM)]
        return [event["type"] for event in written if event["media_id"] == str(self.media_id)]

    def served(self) -> set[str]:
        """Return the original with its index objects of copies, content credentials and thumbnails that exist."""
        media_id = self.media_id
        wanted = {keys.original(media_id), keys.credentials(media_id)}
        found = (wanted | {keys.thumbnail(media_id, size.name) for size in SIZES}) & set(self.objects)
        return found | (self.indexed() if keys.original(media_id) in found else set())

    def indexed(self) -> set[str]:
        """Return the index objects of copies."""
        prefixes = (keys.SHA256_PREFIX, keys.SIZE_PREFIX)
        return {key for key in self.objects if key.startswith(prefixes) and key.endswith(f"/{self.media_id}")}

    def left_after_a_death(self) -> set[str]:
        """Return the objects that exist. An attempt that died may leave an index object, until a sweep."""
        is_public = keys.original(self.media_id) in self.objects
        return set(self.objects) if is_public else set(self.objects) - self.indexed()


class _Likeness:
    """Every picture has the same hash, or none."""

    def __init__(self, pdq: bytes | None) -> None:
        self._pdq = pdq

    async def of(self, _picture: bytes) -> bytes | None:
        return self._pdq


class NothingAgainst:
    """A moderation without any call, for tests of something else, which have enough moments. Also its own visit."""

    compares_files = False
    task = Task("", {})
    any_id: AnyId

    def __init__(self, items: Items) -> None:
        self._items = items
        self.blocking = self
        self.hosts: Any = self

    def is_blocked(self, _host: str) -> bool:
        return False

    async def begin(self, any_id: AnyId, task: Task, _queue: str) -> NothingAgainst:
        self.any_id, self.task = any_id, task
        return self

    async def announce_ready(self, facts: MediaFacts, **options: Any) -> bool:
        return await self._items.announce_ready(self.any_id, facts, **options)

    async def announce_published(self, any_id: AnyId, _task: Task, _queue: str, facts: MediaFacts) -> None:
        await self._items.announce_ready(any_id, facts)

    async def _pass(self, *_: object) -> None:
        """Check nothing."""

    see_file = see_made = require_decided = require_not_held = end = enforce = refresh = _pass


def stepped(redis: Redis, steps: Steps) -> Redis:
    """Return the same Redis, for one actor."""
    return cast("Redis", _Stepped(redis, steps))


class _Stepped:
    """The part of `Redis` that the handlers use, with steps."""

    def __init__(self, redis: Redis, steps: Steps) -> None:
        self._redis = redis
        self._steps = steps
        self.state = self
        self.errors = redis.errors

    async def execute(self, *command: Any, **options: Any) -> Any:
        return await self._steps.around(f"redis {command[0]}", lambda: self._redis.execute(*command, **options))

    async def execute_blocking(self, *command: Any, **options: Any) -> Any:
        call = partial(self._redis.execute_blocking, *command, **options)
        return await self._steps.around(f"redis {command[0]}", call)

    async def get_many(self, keys: Sequence[str]) -> Any:
        return await self._steps.around("redis MGET", lambda: self._redis.get_many(keys))

    async def is_cluster(self) -> bool:
        return await self._redis.is_cluster()

    async def grouped(self, keys: Sequence[str], most: int) -> list[list[str]]:
        return await self._redis.grouped(keys, most)

    run_in_groups = Redis.run_in_groups

    async def run(self, script: Any, script_keys: Any, args: Any = (), **more: Any) -> Any:
        call = partial(self._redis.run, script, script_keys, args, **more)
        return await self._steps.around(f"redis {script.name}", call)


def slot_of(what: Dependency, value: Any) -> ResourceSlot[Any]:
    slot: ResourceSlot[Any] = ResourceSlot(what)
    slot.fill(value)
    return slot


@asynccontextmanager
async def open_stages(redis_url: str) -> AsyncIterator[Callable[..., Stage]]:
    """Yield a function that makes new stages, each with an upload of its own."""
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        async with open_redis(redis_url) as redis:

            def new_stage(delay_s: float = 0.0) -> Stage:
                stage = Stage(client, redis, delay_s)
                stage.upload()
                return stage

            yield new_stage
