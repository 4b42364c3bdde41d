"""The work of the random chaos, as clients and other services create it: uploads, remote media, deletions.

Everything in the `Ledger` was acknowledged; each client repeats its requests until then. Nothing here uses the
service's code.
"""

from __future__ import annotations

import io
import json
import math
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import botocore.exceptions
import grpc
import redis
from PIL import Image

from avion_media.common.wire.avion import media_pb2 as wire
from tests.chaos.random_replica import DEADLY
from tests.chaos.random_world import BUCKET, World
from tests.crash.checker import keys_of
from tests.remote_ids import remote_id_for
from tests.service.published import encode_id

DATA = Path(__file__).parents[1] / "data"
JPEG, PNG, MP4 = 1, 2, 32
PICTURES = 12
CLIENTS = 4
MOST_OPEN = 48  # accepted and not ended; beyond this clients wait
_CALL_S = 5.0
_PAUSE_S = 0.1
_SHARES = {"picture": 90, "corrupt": 3, "video": 1.5, "remote": 5.5}
_DROPPED_AT_ONCE, _DROPPED_LATER = 0.06, 0.06
_DEADLY_EVERY_S = 45.0
STATES = wire.MediaStatus.State.Name


@dataclass(frozen=True)
class Body:
    """A body to upload, and how it must end."""

    name: str
    code: int
    content_type: str
    data: bytes
    state: str = "READY"
    reason: str = ""


@dataclass
class Accepted:
    """One media item that the service accepted. Times are Unix seconds; 0: never."""

    media_id: str
    kind: str
    body: Body
    accepted_at: float
    deleted_at: float = 0.0  # before the first attempt to publish it
    ready_when_deleted: bool = False


@dataclass
class Ledger:
    """What was acknowledged, what was published, and the errors in between."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)  # whether or not it was acknowledged
    events: dict[str, list[tuple[float, str, str]]] = field(default_factory=dict)  # id: (Unix time, type, reason)
    told: dict[str, list[str]] = field(default_factory=dict)  # id: states in the order of their responses
    codes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def ended(self, media_id: str) -> bool:
        """Return whether an end was announced. A deletion counts only if one was requested."""
        events, entry = self.events.get(media_id), self.accepted[media_id]
        return bool(events) and (not entry.deleted_at or any(kind == "media.deleted" for _, kind, _ in events or ()))

    def open(self) -> list[str]:
        """The media items that were accepted and have not ended."""
        return [each for each in list(self.accepted) if not self.ended(each)]


def remote_id_of(url: str) -> str:
    """Return the id of a remote media item."""
    return remote_id_for(url).text


def bodies() -> list[Body]:
    """Return all bodies except deadly files: small pictures that all differ, a video, a corrupt file."""
    video = (DATA / "mp4-h264-rotated-90-tiny.mp4").read_bytes()
    corrupt = (DATA / "jpeg-corrupt-header.jpg").read_bytes()
    return [
        *(picture(number) for number in range(PICTURES)),
        Body("video", MP4, "video/mp4", video),
        Body("corrupt", JPEG, "image/jpeg", corrupt, "FAILED", "corrupt"),
    ]


def picture(number: int, width: int = 48) -> Body:
    """Return a small picture; each number has another one."""
    chance = random.Random(number)
    image = Image.frombytes("RGB", (width, 32), chance.randbytes(width * 32 * 3))
    written = io.BytesIO()
    kind, code = (("JPEG", JPEG), ("PNG", PNG))[number % 2]
    image.save(written, kind)
    return Body(f"picture {number}", code, f"image/{kind.lower()}", written.getvalue())


def deadly_body() -> Body:
    """Return a picture that kills the process that works on it, which knows it by its comment."""
    good = picture(0).data
    comment = b"\xff\xfe" + (len(DEADLY) + 2).to_bytes(2, "big") + DEADLY
    return Body("deadly", JPEG, "image/jpeg", good[:2] + comment + good[2:], "FAILED", "poison")


class Clients:
    """The clients, each of which calls `take_turn` in its thread. The seed chooses the order of bodies."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        channel: grpc.Channel,
        seed: int,
        *,
        with_deadly_files: bool = True,
        pause_s: float = 0.0,
    ) -> None:
        self._world = world
        self._pause_s = pause_s
        self._ledger = ledger
        self._channel = channel
        self._chance = random.Random(f"{seed} work")
        self._lock = threading.Lock()
        self._bodies = bodies()
        self._deadly = deadly_body()
        self._next_deadly_at = time.monotonic() + 10 if with_deadly_files else math.inf
        self._numbers = count()
        self.to_delete: list[str] = []
        self.give_up = threading.Event()  # set when no more responses will come

    def take_turn(self) -> None:
        """Add one piece of work, unless there is enough."""
        if len(self._ledger.open()) >= MOST_OPEN:
            time.sleep(_PAUSE_S)
            return
        with self._lock:
            kind, body, delete = self._draw()
        media_id = self.cache(body) if kind == "remote" else self.upload(body, kind)
        if delete and media_id:
            self.to_delete.append(media_id)
        time.sleep(self._pause_s)

    def _draw(self) -> tuple[str, Body, bool]:
        if time.monotonic() > self._next_deadly_at and not self._deadly_is_open():
            self._next_deadly_at = time.monotonic() + _DEADLY_EVERY_S
            return "deadly", self._deadly, False
        (kind,) = self._chance.choices(list(_SHARES), list(_SHARES.values()))
        pictures = [each for each in self._bodies if each.name.startswith("picture")]
        body = self._chance.choice(pictures)
        if kind in ("video", "corrupt"):
            body = next(each for each in self._bodies if each.name == kind)
        return kind, body, self._chance.random() < _DROPPED_AT_ONCE + _DROPPED_LATER

    def _deadly_is_open(self) -> bool:
        """Return whether a deadly file is open. Two at once would kill both replicas in turn, and block all else."""
        return any(self._ledger.accepted[each].kind == "deadly" for each in self._ledger.open())

    def upload(self, body: Body, kind: str) -> str:
        """Request, PUT and complete an upload, each until it succeeds. Return the id, or None if it never succeeded."""
        with self._lock:
            media_id = encode_id(datetime.now(UTC), body.code, self._chance.getrandbits(72))
        self._ledger.asked.add(media_id)
        self._put(media_id, body)
        request = wire.CompleteMediaUploadRequest(media_id=media_id)
        answered = self._call("CompleteMediaUpload", request, wire.CompleteMediaUploadResponse)
        return self._accept(media_id, kind, body) if answered is not None else ""

    def cache(self, body: Body) -> str:
        """Request a new remote file."""
        path = f"/{next(self._numbers)}-{secrets.token_hex(4)}"
        self._world.remote.files[path] = body.data
        url = f"{self._world.remote.url}{path}"
        media_id = remote_id_of(url)
        self._ledger.asked.add(media_id)
        answered = self._call(
            "CacheRemoteMedia", wire.CacheRemoteMediaRequest(remote_url=url), wire.CacheRemoteMediaResponse
        )
        return self._accept(media_id, "remote", body) if answered is not None else ""

    def _accept(self, media_id: str, kind: str, body: Body) -> str:
        self._ledger.accepted[media_id] = Accepted(media_id, kind, body, time.time())
        return media_id

    def _put(self, media_id: str, body: Body) -> None:
        while not self.give_up.is_set():
            try:
                self._world.s3.put_object(
                    Bucket=BUCKET, Key=f"incoming/{media_id}", Body=body.data, ContentType=body.content_type
                )
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                time.sleep(_PAUSE_S)
            else:
                return

    def _call(self, name: str, request: Any, answer: Any) -> Any:
        while not self.give_up.is_set():
            try:
                response = call(self._channel, name, request, answer)
            except grpc.RpcError as error:
                self._ledger.codes[error.code().name] += 1
                if error.code() not in PASSING:
                    self._ledger.problems.append(f"{name}: {error.code().name}: {error.details()}")
                time.sleep(_PAUSE_S)
            else:
                self._ledger.codes["OK"] += 1
                return response
        return None


# The errors of a client that retries, during outages or while its replica is suspended.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def call(channel: grpc.Channel, name: str, request: Any, answer: Any, within_s: float = _CALL_S) -> Any:
    """Make one call of MediaService."""
    method = channel.unary_unary(
        f"/avion.MediaService/{name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return method(request, timeout=within_s)


class Deleter:
    """The post service. It publishes deletions, some at once and some when the media item is public: on the stream, and
    sometimes on the channel too."""

    def __init__(self, world: World, ledger: Ledger, clients: Clients, seed: int) -> None:
        self._world = world
        self._ledger = ledger
        self._clients = clients
        self._chance = random.Random(f"{seed} drops")
        self._later: list[str] = []

    @property
    def idle(self) -> bool:
        """Whether no deletion is left to publish."""
        return not self._clients.to_delete and not self._later

    def take_turn(self) -> None:
        """Publish the deletions that are due."""
        while self._clients.to_delete:
            media_id = self._clients.to_delete.pop()
            if self._chance.random() < _DROPPED_LATER / (_DROPPED_AT_ONCE + _DROPPED_LATER):
                self._later.append(media_id)
            else:
                self._delete(media_id, ready=False)
        for media_id in list(self._later):
            events = self._ledger.events.get(media_id)
            if events:
                self._later.remove(media_id)
                self._delete(media_id, ready=events[0][1].endswith(".ready"))
        time.sleep(_PAUSE_S)

    def _delete(self, media_id: str, *, ready: bool) -> None:
        entry = self._ledger.accepted[media_id]
        entry.ready_when_deleted = ready
        entry.deleted_at = time.time()
        event = json.dumps({"media_ids": [media_id]})
        until_answered(lambda: self._world.client.xadd("drop_deleted", {"event": event}), self._clients.give_up)
        if self._chance.random() < 0.5:
            with suppress(redis.RedisError):
                self._world.client.publish("drop_deleted", event)


def until_answered(ask: Callable[[], Any], give_up: threading.Event) -> Any:
    """Repeat a request to Redis until it responds. Return None if it never does."""
    while not give_up.is_set():
        try:
            return ask()
        except redis.RedisError:
            time.sleep(_PAUSE_S)
    return None


class Listener:
    """Another service that reads `media_events`, and keeps all events."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self._last = "0"

    def take_turn(self) -> None:
        """Read the new events."""
        try:
            found = self._world.client.xread({"media_events": self._last}, count=500, block=300)
        except redis.RedisError:
            time.sleep(_PAUSE_S)
            return
        for entry_id, fields in _rows(found):
            self._last = entry_id
            event = json.loads(fields["event"])
            seconds = int(entry_id.partition("-")[0]) / 1000
            self._ledger.events.setdefault(event["media_id"], []).append(
                (seconds, event["type"], event.get("reason", ""))
            )


def _rows(found: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for _, rows in found.items() if isinstance(found, dict) else found or ():
        yield from rows


class Observer:
    """Checks random media items during the run: each status must be true, and stay true."""

    def __init__(self, world: World, ledger: Ledger, channel: grpc.Channel, delay_s: float) -> None:
        self._world = world
        self._ledger = ledger
        self._channel = channel
        self._delay_s = delay_s
        self._chance = random.Random()

    def take_turn(self) -> None:
        """Check one media item, and each that waits for its removal."""
        ids = list(self._ledger.accepted)[-200:]
        if ids:
            self._look(self._ledger.accepted[self._chance.choice(ids)])
        for entry in [self._ledger.accepted[each] for each in ids]:
            if entry.ready_when_deleted and entry.deleted_at:
                self._is_not_early(entry)
        time.sleep(_PAUSE_S)

    def _look(self, entry: Accepted) -> None:
        request = wire.GetMediaStatusRequest(media_id=entry.media_id)
        try:
            state = STATES(call(self._channel, "GetMediaStatus", request, wire.MediaStatus).state)
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                self._ledger.problems.append(f"GetMediaStatus: {error.code().name}: {error.details()}")
            return
        told = self._ledger.told.setdefault(entry.media_id, [])
        if not told or told[-1] != state:
            told.append(state)
        if state == "READY" and self._original(entry.media_id) is False and not entry.deleted_at:
            self._ledger.problems.append(f"{entry.media_id}: said to be READY without an original")

    def _is_not_early(self, entry: Accepted) -> None:
        before = time.time()
        due = entry.deleted_at + self._delay_s
        if before < due and self._original(entry.media_id) is False:
            self._ledger.problems.append(f"{entry.media_id}: removed {due - before:.2f} s too early")

    def _original(self, media_id: str) -> bool | None:
        """Return whether it exists; None while the store does not respond."""
        try:
            self._world.s3.head_object(Bucket=BUCKET, Key=keys_of(media_id)["original"])
        except botocore.exceptions.ClientError as error:
            return False if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404 else None
        except botocore.exceptions.BotoCoreError:
            return None
        return True
