"""A state machine of one media item around the real `Blocking`: moderators, workers, and the looks of the node.

Everything that decides is the service's own, and so are its records. The machine plays the processes: each can stop
before each of its calls for as long as it likes, or die there. A claim on Redis ends when nobody renews it in time.
``seed`` alone decides what happens in which order.

Another media item of the same hash stays blocked throughout, and its entries share a page with those of the first.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from avion_media.backends.redis import LockLost, Redis
from avion_media.backends.store import ObjectStore
from avion_media.common import keys
from avion_media.common.errors import Dependency, PreconditionFailed, Reason, Unavailable
from avion_media.common.formats import PNG
from avion_media.common.ids import AnyId, MediaId, new_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.common.tasks import State, Status
from avion_media.items.item import Items
from avion_media.items.moderation import Entry, HashType, ModerationRecords, ModerationStatus, NotBlocked, Unwanted
from avion_media.items.moderation.blocking import Blocking
from avion_media.items.moderation.entries import OwnEntries, page_of
from avion_media.items.moderation.evidence import Evidence
from avion_media.items.moderation.records import BLOCK, CHANGES, Block, BlockState
from avion_media.items.state import MediaEvents, StatusStore
from mediathumbs import ThumbnailSize
from tests.crash.stage import Killed, MemoryStore, Stored
from tests.remote_ids import knowing
from trio_redis import Errors

CLAIM_S = 3.0
KEEP_S = 400 * 86400.0
SIZES = (ThumbnailSize("small", 400),)
DATA = b"the original"
DIGEST = sha256(DATA).digest()
OWNER = "alice"
METADATA = {"sha256": DIGEST.hex(), "owner": OWNER}
MAX_STEPS, MAX_ACTORS, MAX_TURNS = 600, 6, 9


class Broken(AssertionError):
    """The machine has seen what must not happen."""


@dataclass(eq=False)
class Actor:
    """One task of one process. It waits before each call until the machine lets it go on."""

    name: str
    turns: dict[str, trio.Event] = field(default_factory=dict)  # by the call that each lets go
    killed: bool = False
    ended: bool = False

    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if not self.killed:
            while name in self.turns:  # two tasks of the process make the same call
                name += "'"
            self.turns[name] = turn = trio.Event()
            await turn.wait()
        if self.killed:
            raise Killed
        return await call()

    def kill(self) -> None:
        self.killed = True
        self.let_go()

    def let_go(self) -> None:
        for turn in self.turns.values():
            turn.set()
        self.turns.clear()


class World:
    """What outlives the processes, the processes, and what must be true at each moment."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.objects: dict[str, Stored] = {}
        self.locks: dict[str, tuple[bytes, float]] = {}
        self.blocked_status = self.listed = False
        self.actors: list[Actor] = []
        self.log: list[str] = []
        self.state: BlockState | None = None
        self.media_id, self.other = _on_one_page(self.random)
        self.entry = Entry(HashType.SHA256, DIGEST, media_id=str(self.other))
        for key in (keys.original(self.media_id), keys.thumbnail(self.media_id, "small")):
            self.objects[key] = Stored(DATA, "image/png", METADATA, datetime.now(UTC))
        self.objects[page_of(self.entry)] = Stored(f"{self.entry}\n".encode(), "text/csv", {}, datetime.now(UTC))

    # -- what is true

    def block(self) -> Block | None:
        key = keys.block(str(self.media_id))
        return BLOCK.read(self.objects[key].data, key) if key in self.objects else None

    def served(self) -> dict[str, bytes]:
        wanted = keys.original(self.media_id), keys.thumbnail(self.media_id, "small")
        return {key: self.objects[key].data for key in wanted if key in self.objects}

    def entries_of(self, media_id: MediaId) -> int:
        lines = self.objects[page_of(self.entry)].data.decode().splitlines()
        return sum(line.endswith(f",{media_id}") for line in lines)

    def check(self) -> None:
        """Check what must be true at every moment."""
        block = self.block()
        state = None if block is None else block.state
        if state is not self.state and (state is None or state not in CHANGES[self.state]):
            raise Broken(f"the state goes from {self.state} to {state}")
        self.state = state
        if self.entries_of(self.other) < 1 + self.listed:
            raise Broken("the protection of another media item is gone")
        kept = f"{keys.QUARANTINE_PREFIX}{self.media_id}/original"
        if not {keys.original(self.media_id), kept} & self.objects.keys():
            raise Broken("the file is gone")
        watched = f"{keys.WATCHED_PREFIX}{self.media_id}" in self.objects
        if block is not None and not watched and (not block.settled or (block.in_force and self.served())):
            raise Broken(f"nobody watches it: {block.state}, served {len(self.served())}")

    def judge(self) -> None:
        """Check what must be true at the end, when no process is in the middle of anything."""
        block, served, entries = self.block(), self.served(), self.entries_of(self.media_id)
        noted = keys.blocked_of(f"owner/{OWNER}", str(self.media_id)) in self.objects
        found = f"{block and block.state}, served {len(served)}, entries {entries}, {self.blocked_status} {noted}"
        if block is not None and not block.settled:
            raise Broken(f"it never ends: {found}")
        if block is not None and block.in_force and (served or not entries or not noted):
            raise Broken(f"blocked, but: {found}")
        if (block is None or not block.in_force) and (len(served) != 2 or entries or noted or self.blocked_status):
            raise Broken(f"not blocked, but: {found}")
        if set(served.values()) - {DATA}:
            raise Broken("other bytes")

    # -- processes

    def blocking(self, actor: Actor) -> Blocking:
        """Make the `Blocking` of another process."""
        store: ResourceSlot[ObjectStore] = ResourceSlot(Dependency.STORE)
        store.fill(cast("ObjectStore", MemoryStore(self.objects, cast("Any", actor))))
        items = knowing(Items(store, cast("Redis", _Redis(self, actor)), SIZES))
        items.statuses = cast("StatusStore", _Statuses(self, actor))
        items.events = cast("MediaEvents", _Nothing())
        made = Blocking(items, ModerationStatus(store), Evidence(store, KEEP_S), _no_hash, CLAIM_S)

        async def digest(key: str) -> bytes | None:  # a thread would let the machine go on meanwhile
            return DIGEST if await store.get().exists(key) else None

        made._sha256 = digest  # type: ignore[method-assign]
        return made


class _Nothing:
    async def publish(self, *_: object, **_more: object) -> bool:
        return True


async def _no_hash(_picture: bytes) -> bytes | None:
    return None


@dataclass
class _Redis:
    """Locks that expire. Nothing else on Redis decides about a block."""

    errors = Errors(lock_lost=LockLost)

    world: World
    actor: Actor

    async def execute(self, name: str, *args: Any, **_more: object) -> Any:
        async def call() -> Any:
            if name != "SET" or "NX" not in args:
                return None
            key, token = args[0], args[1].encode()
            holder, until = self.world.locks.get(key, (None, 0.0))
            if holder is not None and until > trio.current_time():
                return holder
            self.world.locks[key] = token, trio.current_time() + args[-1] / 1000
            return None

        return await self.actor.around(f"redis {name}", call)

    async def run(self, script: Any, script_keys: Sequence[str], args: Sequence[Any] = (), **_more: object) -> Any:
        async def call() -> Any:
            key, token = script_keys[0], args[0].encode()
            holder, until = self.world.locks.get(key, (None, 0.0))
            if holder != token or until <= trio.current_time():
                return 0
            if script.name == "release_lock":
                del self.world.locks[key]
            else:
                self.world.locks[key] = token, trio.current_time() + args[1] / 1000
            return 1

        return await self.actor.around(f"redis {script.name}", call)

    @property
    def state(self) -> _Redis:
        return self


@dataclass
class _Statuses:
    """Whether the status is FAILED and blocked."""

    world: World
    actor: Actor

    async def get(self, media_id: str) -> Status | None:
        return (await self.get_many([media_id]))[media_id]

    async def get_many(self, media_ids: Sequence[str], **_more: object) -> Mapping[str, Status | None]:
        async def call() -> Mapping[str, Status | None]:
            blocked = Status(media_ids[0], State.FAILED, reason=Reason.BLOCKED)
            return {media_ids[0]: blocked if self.world.blocked_status else None}

        return cast("Mapping[str, Status | None]", await self.actor.around("get status", call))

    async def put(self, _status: Status, **_more: object) -> None:
        await self._set(blocked=True)

    async def forget(self, _media_id: str) -> None:
        await self._set(blocked=False)

    async def deletion_state(self, _media_id: str) -> str:
        return ""

    async def _set(self, *, blocked: bool) -> None:
        async def call() -> None:
            self.world.blocked_status = blocked

        await self.actor.around("set status", call)


async def _block(world: World, actor: Actor) -> None:
    await world.blocking(actor).block(world.media_id, Unwanted("moderator"))


async def _unblock(world: World, actor: Actor) -> None:
    await world.blocking(actor).unblock(world.media_id, "moderator")


async def _look(world: World, actor: Actor) -> None:
    await world.blocking(actor).resume(abandoned_only=False)


async def _write(world: World, actor: Actor) -> None:
    """An attempt of a worker that looks before and after it writes."""
    blocking = world.blocking(actor)
    store = blocking._items.store.get()
    if await ModerationRecords(blocking._items.store).is_blocked(str(world.media_id)):
        return
    for key in (keys.thumbnail(world.media_id, "small"), keys.original(world.media_id)):
        with suppress(PreconditionFailed):
            await store.put(key, DATA, content_type="image/png", metadata=METADATA, only_if_absent=True)
    await blocking.enforce(world.media_id)


async def _list(world: World, actor: Actor) -> None:
    """Another hash of the other media item is listed."""
    await OwnEntries(world.blocking(actor)._items.store).add(
        [Entry(HashType.MD5, bytes(16), media_id=str(world.other))]
    )
    world.listed = True


ACTS: Sequence[Callable[[World, Actor], Awaitable[None]]] = (_block, _block, _unblock, _unblock, _look, _write, _list)


async def _run(seed: int) -> None:
    world = World(seed)
    clock = cast("MockClock", trio.lowlevel.current_clock())

    async def live(act: Callable[[World, Actor], Awaitable[None]], actor: Actor) -> None:
        try:
            await act(world, actor)
        except (Killed, Unavailable, NotBlocked) as error:
            world.log.append(f"{actor.name}: {type(error).__name__}")
        except BaseExceptionGroup as group:
            if group.split((Killed, Unavailable, trio.Cancelled))[1] is not None:
                raise
        finally:
            actor.ended = True

    def start(act: Callable[[World, Actor], Awaitable[None]]) -> Actor:
        actor = Actor(f"{len(world.actors)} {act.__name__.strip('_')}")
        world.actors.append(actor)
        world.log.append(f"{actor.name} starts")
        nursery.start_soon(live, act, actor)
        return actor

    async def go_on(actor: Actor, steps: int) -> None:
        for _ in range(steps):
            await wait_all_tasks_blocked()
            world.check()
            if actor.ended:
                return
            if actor.turns:
                name = world.random.choice(sorted(actor.turns))
                world.log.append(f"{actor.name}: {name}")
                actor.turns.pop(name).set()
            else:
                clock.jump(1.0)

    async def let_end(actors: Sequence[Actor]) -> None:
        for _ in range(MAX_STEPS):
            left = [each for each in actors if not each.ended]
            if not left:
                return
            await go_on(world.random.choice(left), world.random.randrange(1, 50))
        raise Broken("it goes on forever")

    async def play() -> None:
        for _ in range(world.random.randrange(2, MAX_TURNS)):
            stopped = [each for each in world.actors if not each.ended]
            is_new = not stopped or (len(world.actors) < MAX_ACTORS and world.random.random() < 0.6)
            actor = start(world.random.choice(ACTS)) if is_new else world.random.choice(stopped)
            if world.random.random() < 0.7:
                clock.jump(CLAIM_S + 1)
            # The others stand still meanwhile.
            await go_on(actor, MAX_STEPS if world.random.random() < 0.5 else world.random.randrange(1, 70))
            if not actor.ended and world.random.random() < 0.2:
                actor.kill()
        alive = [each for each in world.actors if not each.ended]
        for each in alive:
            if world.random.random() < 0.3:
                each.kill()
        await let_end(alive)
        for _ in range(2):
            clock.jump(CLAIM_S + 1)
            await let_end([start(_look)])
        world.judge()

    found = ""
    async with trio.open_nursery() as nursery:
        try:
            await play()
        except Broken as broken:
            found = str(broken)
        finally:
            for each in world.actors:  # else they would wait for their turns, shielded
                each.kill()
            nursery.cancel_scope.cancel()
    if found:
        raise Broken(f"seed {seed}: {found}; " + "; ".join(world.log[-200:]))


def run(seed: int) -> None:
    """Run the machine once. Raises `Broken`."""
    trio.run(_run, seed, clock=MockClock())


def _on_one_page(source: random.Random) -> tuple[MediaId, MediaId]:
    """Return two ids whose entries are on the same page."""
    first = new_media_id(PNG, 1_790_000_000_000, source.getrandbits)
    page = page_of(Entry(HashType.SHA256, DIGEST, media_id=str(first)))
    while True:
        other = new_media_id(PNG, 1_790_000_000_001, source.getrandbits)
        if page_of(Entry(HashType.SHA256, DIGEST, media_id=str(other))) == page:
            return first, other


__all__ = ["AnyId", "Broken", "run"]
