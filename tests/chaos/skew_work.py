"""The work of the version skew that the random chaos does not have: undeletes, blocks, bulk jobs, commands that only
read, and what tomorrow's replicas alone can do."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx

from avion_media.common import keys
from avion_media.common.wire.avion import media_pb2 as wire
from tests.chaos.random_work import PASSING, STATES, Body, Ledger, call, picture, remote_id_of
from tests.chaos.random_world import BUCKET, Replica, World
from tests.chaos.tomorrow import FIELD, FORMAT_CODE
from tests.crash.checker import keys_of
from tests.service.harness import eventually
from tests.service.published import encode_id, key_of

_COMMAND_S = 90.0  # the machine may be busy
_CALL_S = 20.0
_PAUSE_S = 0.5
_FIRST_PICTURE = 1000  # the numbers before are those of the random chaos: a block must not hit its files
_SAMPLES = Path(__file__).parents[1] / "data/records"
_MODERATED = {"block": keys.BLOCK_PREFIX, "held": keys.HELD_PREFIX}  # kinds of records, and where they are
_JOB = "{media_cache_queue}:job:replay"
_LOOKS = (
    ("jobs",), ("queues",), ("dlq", "list"), ("usage",), ("review", "list"), ("blocklist", "list"),
    ("sweep", "--dry-run"), ("tree",), ("doctor",),
)  # fmt: skip


@dataclass(frozen=True)
class Version:
    """A version of the service that can run here: its interpreter, and the folder that has its package."""

    name: str
    python: str
    folder: Path

    @property
    def program(self) -> tuple[str, ...]:
        """The command that is ``avion-media``."""
        return "env", f"PYTHONPATH={self.folder}", self.python, "-P", "-m", "avion_media"

    def become(self, what: Replica) -> None:
        """Let the next process of a replica be of this version."""
        what.program = (*self.program, "serve")
        what.log = self.log_of(what)

    def log_of(self, what: Replica) -> Path:
        """Return where processes of this version log."""
        return what.log.with_name(f"replica-{what.name}-{self.name}.log")

    def run(self, replica: Replica, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the settings of a replica."""
        return subprocess.run(
            [*self.program, *arguments],
            env=replica.environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
        )


@dataclass
class Fleet:
    """Which version each replica is of. ``steady``: held while a replica is replaced, or must not be."""

    world: World
    versions: list[Version]
    steady: threading.Lock = field(default_factory=threading.Lock)

    def of(self, version: Version) -> list[Replica]:
        """Return the replicas of a version."""
        pairs = zip(self.world.replicas, self.versions, strict=True)
        return [replica for replica, its in pairs if its is version]


class Operator:
    """One operator, moderator and post service, which does one thing after the other. ``expected``: how each of its
    media items must end."""

    def __init__(self, fleet: Fleet, ledger: Ledger, channel: grpc.Channel, seed: int) -> None:
        self._fleet = fleet
        self._world = fleet.world
        self._ledger = ledger
        self._channel = channel
        self._chance = random.Random(f"{seed} operator")
        self._numbers = count(_FIRST_PICTURE)
        self._todo: list[Callable[[], None]] = []
        self.expected: dict[str, tuple[str, str]] = {}
        self.done: list[str] = []

    def take_turn(self) -> None:
        """Do one thing, all of them in a random order before the first comes again."""
        if not self._todo:
            self._todo = [self._undelete, self._block, self._unblock, self._undelete_many, self._replay, self._look]
            self._chance.shuffle(self._todo)
        task = self._todo.pop()
        name = task.__name__.strip("_")
        try:
            task()
        except (grpc.RpcError, AssertionError, subprocess.TimeoutExpired) as error:
            self._ledger.problems.append(f"{name}: {error!r}"[:500])
        else:
            self.done.append(name)
        time.sleep(_PAUSE_S)

    def _undelete(self) -> None:
        media_id = self._published()
        self._delete([media_id])
        self._command("undelete", media_id, may_fail=True)
        self._undone([media_id])

    def _undelete_many(self) -> None:
        media_ids = [self._published() for _ in range(3)]
        self._delete(media_ids)
        self._command("undelete", "--rate", "50", *media_ids)
        self._undone(media_ids)

    def _undone(self, media_ids: Sequence[str]) -> None:
        """Each must be READY again, unless its removal came first, which the event says."""

        def removed() -> set[str]:
            events = self._ledger.events
            return {each for each in media_ids if any(kind == "media.deleted" for _, kind, _ in events.get(each, []))}

        self._wait(lambda: all(self.state(each)[0] == "READY" for each in set(media_ids) - removed()))
        late = removed()
        self.expected |= {each: ("DELETED", "") if each in late else ("READY", "") for each in media_ids}

    def _block(self) -> None:
        media_id = self._published()
        self._call(
            "BlockMedia",
            wire.BlockMediaRequest(media_id=media_id, note="skew"),
            wire.BlockMediaResponse,
        )
        self.expected[media_id] = ("FAILED", "blocked")
        served = [each for each in self._origins(media_id) if each == 200]
        if served:
            self._ledger.problems.append(f"{media_id}: its block is acknowledged, but {len(served)} origins serve it")

    def _unblock(self) -> None:
        self._block()
        media_id = list(self.expected)[-1]
        self._call("UnblockMedia", wire.UnblockMediaRequest(media_id=media_id), wire.UnblockMediaResponse)
        self.expected[media_id] = ("READY", "")

    def _replay(self) -> None:
        """Replay a dead letter that an earlier process left, by a bulk job."""
        media_id, body = self._new()
        self._world.s3.put_object(
            Bucket=BUCKET, Key=f"incoming/{media_id}", Body=body.data, ContentType=body.content_type
        )
        dead = {
            "task_id": media_id,
            "media_id": media_id,
            "type": "thumbnail",
            "error": "internal: skew",
            "attempts": "5",
        }
        now = f"{time.time():.3f}"
        self._world.client.xadd("{media_processing_queue}:dlq", {**dead, "first_seen": now, "failed_at": now})
        self._command("dlq", "replay", "--queue", "processing", "--all", "--rate", "50")
        self._wait(lambda: self.state(media_id) == ("READY", ""))
        self.expected[media_id] = ("READY", "")

    def _look(self) -> None:
        media_id = self._chance.choice(list(self._ledger.accepted))
        self._command(*self._chance.choice([*_LOOKS, ("inspect", media_id)]), may_fail=True)

    # -- steps

    def _new(self) -> tuple[str, Body]:
        # Of another size than the clients' pictures: a block reads the metadata of all originals of its own size, and
        # the clients send thousands of one size.
        body = picture(next(self._numbers), width=52)
        media_id = encode_id(datetime.now(UTC), body.code, self._chance.getrandbits(72))
        self._ledger.asked.add(media_id)
        return media_id, body

    def _published(self) -> str:
        media_id, body = self._new()
        self._world.s3.put_object(
            Bucket=BUCKET, Key=f"incoming/{media_id}", Body=body.data, ContentType=body.content_type
        )
        request = wire.CompleteMediaUploadRequest(media_id=media_id)
        self._call("CompleteMediaUpload", request, wire.CompleteMediaUploadResponse)
        self._wait(lambda: self.state(media_id) == ("READY", ""))
        return media_id

    def _delete(self, media_ids: Sequence[str]) -> None:
        self._world.client.xadd("drop_deleted", {"event": json.dumps({"media_ids": media_ids})})
        self._wait(lambda: all(self.state(each) == ("DELETED", "") for each in media_ids))

    def state(self, media_id: str) -> tuple[str, str]:
        status = self._call("GetMediaStatus", wire.GetMediaStatusRequest(media_id=media_id), wire.MediaStatus)
        return STATES(status.state), status.reason

    def _origins(self, media_id: str) -> list[int]:
        found = []
        for replica in self._world.replicas:
            with suppress(httpx.HTTPError):  # it is being replaced
                url = f"http://{replica.environment['AVION_MEDIA_HTTP__BIND']}/media/{media_id}"
                found.append(httpx.get(url, trust_env=False, verify=False, timeout=20).status_code)
        return found

    def _call(self, name: str, request: Any, answer: Any) -> Any:
        """Call until it succeeds, and count each failure."""
        while True:
            try:
                response = call(self._channel, name, request, answer, _CALL_S)
            except grpc.RpcError as error:
                self._ledger.codes[error.code().name] += 1
                self._ledger.problems.append(f"{name}: {error.code().name}: {error.details()}")
                if error.code() not in PASSING:
                    raise
                time.sleep(_PAUSE_S)
            else:
                self._ledger.codes["OK"] += 1
                return response

    def _command(self, *arguments: str, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of a random version. One that ``may_fail`` must still not end with a traceback."""
        number = self._chance.randrange(len(self._world.replicas))
        version = self._fleet.versions[number]
        result = version.run(self._world.replicas[number], *arguments)
        if "Traceback" in result.stderr or (result.returncode and not may_fail):
            self._ledger.problems.append(
                f"{version.name}: avion-media {' '.join(arguments)}: {result.returncode}: {result.stderr[-1500:]}"
            )
        return result

    def _wait(self, look: Callable[[], bool]) -> None:
        eventually(look, "an operator's step to take effect", _COMMAND_S)


class NewerUploads:
    """Uploads in the format that only tomorrow's version knows, by calls to tomorrow's replicas."""

    def __init__(self, fleet: Fleet, ledger: Ledger, newer: Version, seed: int) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._newer = newer
        self._chance = random.Random(f"{seed} newer")
        self._body = replace(picture(_FIRST_PICTURE - 1), name=FIELD, code=FORMAT_CODE, content_type=f"image/x-{FIELD}")
        self.media_ids: list[str] = []

    def take_turn(self) -> None:
        """Upload one file, if there is a replica that accepts it."""
        with self._fleet.steady:
            for replica in self._fleet.of(self._newer)[:1]:
                media_id = self.put()
                with grpc.insecure_channel(replica.environment["AVION_MEDIA_GRPC__BIND"]) as channel:
                    request = wire.CompleteMediaUploadRequest(media_id=media_id)
                    call(channel, "CompleteMediaUpload", request, wire.CompleteMediaUploadResponse)
                self._ledger.codes["OK"] += 1
        time.sleep(1.0)

    def queue(self) -> str:
        """Queue the task of such an upload, as a replica of tomorrow's did before it was replaced."""
        media_id = self.put()
        task = {"task_id": media_id, "media_id": media_id, "type": "thumbnail"}
        self._fleet.world.client.xadd("media_processing_queue", task)
        return media_id

    def put(self) -> str:
        """PUT the file of a new media item, and return its id."""
        media_id = encode_id(datetime.now(UTC), FORMAT_CODE, self._chance.getrandbits(72))
        self._ledger.asked.add(media_id)
        self._fleet.world.s3.put_object(
            Bucket=BUCKET, Key=f"incoming/{media_id}", Body=self._body.data, ContentType=self._body.content_type
        )
        self.media_ids.append(media_id)
        return media_id

    def is_published(self, media_id: str) -> bool:
        """Return whether its original exists."""
        key = keys_of(media_id)["original"]
        return bool(self._fleet.world.s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents"))


class OnlyOfTomorrow:
    """Records of kinds and versions that only tomorrow's version knows. Today's must count each, and go on.

    ``records``: the kinds that today's version must count, by key. ``allowed``: others that it may come across.
    """

    def __init__(self, world: World, ledger: Ledger, seed: int) -> None:
        self._world = world
        self._ledger = ledger
        self._chance = random.Random(f"{seed} only of tomorrow")
        self._ready, self._failed = self._id(), self._id()
        self._moderated = {kind: self._id() for kind in _MODERATED if (_SAMPLES / f"{kind}.json").exists()}
        self._url = f"{world.remote.url}/{FIELD}"
        self._remote = remote_id_of(self._url)
        entry = f"{datetime.now(UTC):%Y/%m/%d}/{self._id()}.json"
        self._entry, self._aside = f"journal/deletions/{entry}", f"journal/unreadable/{entry}"
        self.records = {
            key_of("media_status", self._ready): "status",
            key_of("remote_failure", self._remote): "remote_failure",
            _JOB: "bulk_job",
            self._entry: "journal",
            **{f"{_MODERATED[kind]}{media_id}": kind for kind, media_id in self._moderated.items()},
        }
        self.allowed = {self._aside}

    def _id(self) -> str:
        media_id = encode_id(datetime.now(UTC), 1, self._chance.getrandbits(72))
        self._ledger.asked.add(media_id)
        return media_id

    def write(self) -> None:
        """Write them, but for the journal."""
        client = self._world.client
        client.set(key_of("media_status", self._ready), f"R {FIELD} 1 1 1 0 0.000 L AAAA small ")
        client.set(key_of("media_status", self._failed), f"F {FIELD} 0")
        client.set(key_of("remote_failure", self._remote), json.dumps(_sample("remote_failure") | {"reason": FIELD}))
        client.hset(_JOB, mapping=_sample("bulk_job") | {"state": FIELD, "queue": "media_cache_queue"})
        for kind, media_id in self._moderated.items():
            self._put(f"{_MODERATED[kind]}{media_id}", _sample(kind) | {"v": 2, "media_id": media_id})

    def look(self, replica: Replica) -> None:
        """Ask a replica of today's about them."""
        self._world.remote.files[f"/{FIELD}"] = picture(_FIRST_PICTURE - 2).data
        self._ledger.asked.add(self._remote)
        with grpc.insecure_channel(replica.environment["AVION_MEDIA_GRPC__BIND"]) as channel:
            for media_id in (self._ready, *self._moderated.values()):
                with suppress(grpc.RpcError):  # a server that cannot read the status may not know this media item
                    self._status(channel, media_id)
            with suppress(grpc.RpcError):  # a block that cannot be read stays
                unblock = wire.UnblockMediaRequest(media_id=self._moderated.get("block", ""))
                call(channel, "UnblockMedia", unblock, wire.UnblockMediaResponse, _CALL_S)
            if self._status(channel, self._failed) != "FAILED":
                self._ledger.problems.append("a failure for a reason of tomorrow's is no failure for today's version")
            request = wire.CacheRemoteMediaRequest(remote_url=self._url)
            call(channel, "CacheRemoteMedia", request, wire.CacheRemoteMediaResponse)

    def lose_redis(self) -> bool:
        """Write the entry of the journal, and let the records of deletions count as lost. Return whether the replay
        that follows has set the entry aside. Repeat until then."""
        client = self._world.client
        if self._world.s3.list_objects_v2(Bucket=BUCKET, Prefix=self._aside).get("Contents"):
            return True
        self._put(self._entry, {"v": 2, "kind": FIELD, "media": []})
        for each in client.scan_iter("media_deletions_complete:*"):
            client.delete(each)
        time.sleep(_PAUSE_S)
        return False

    def _status(self, channel: grpc.Channel, media_id: str) -> str:
        request = wire.GetMediaStatusRequest(media_id=media_id)
        return STATES(call(channel, "GetMediaStatus", request, wire.MediaStatus, _CALL_S).state)

    def _put(self, key: str, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self._world.s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="application/json")


def _sample(kind: str) -> dict[str, Any]:
    """Return the committed sample of a record."""
    sample: dict[str, Any] = json.loads((_SAMPLES / f"{kind}.json").read_text())
    return sample
