"""A lane: one Redis, one bucket, and one source of processes, which get work and die."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import grpc
import redis
from botocore.config import Config as BotoConfig

from avion_media.common.wire.avion import media_pb2 as wire
from tests.crash.checker import (
    JOURNAL,
    MODERATED,
    OWNER,
    SECRET,
    SIZES,
    Checker,
    Entry,
    Expected,
    keys_of,
)
from tests.remote_ids import put_remote_key, remote_id_for
from tests.service.harness import service_environment
from tests.service.published import encode_id, key_of
from tests.service.remote_server import RemoteServer, remote_server
from tests.service.webhook_receiver import Receiver, endpoint, receiver
from tests.services import S3Address, redis_server
from tests.services.process import working_directory

DATA = Path(__file__).parents[1] / "data"
CLAIM_AFTER_S = 0.6
DELETE_DELAY_S = 1.0
SETTLE_S = 45.0  # this machine may be busy
_GONE_S = 0.005
_POLL_S = 0.2  # each look at a block asks the origin and lists the bucket
_OF_SERVERS = ("remote_server", "remote_slots")
_CALL_S = 5.0
_PICTURE, _VIDEO, _CORRUPT = "png-display-p3-patch.png", "mp4-h264-udta-xyz-location.mp4", "jpeg-corrupt-header.jpg"
_THUMBNAIL = "jpeg-gray.jpg"
_LARGE_BYTES = 9 << 20  # more than one part
PNG, JPEG, MP4 = 2, 1, 32
HOOKED = "media.held"
"""The type of the events that the lane's endpoint of webhooks gets: no other kind publishes it."""
_OWNED = {"owner": "crash"}
_KEY = secrets.token_bytes(32)  # of upload ids
_OUTAGES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Process:
    """One process of the service."""

    pid: int
    trace: Path
    log: Path

    def alive(self) -> bool:
        with suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def stopped(self) -> bool:
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def calls(self) -> list[tuple[str, int]]:
        """The name and number of each call so far."""
        lines = self.trace.read_text().splitlines() if self.trace.exists() else []
        return [(name, int(nth)) for nth, _, name in (line[2:].partition(" ") for line in lines)]

    def fired(self) -> bool:
        """Whether the fault has happened."""
        return self.trace.exists() and any(line.startswith("!") for line in self.trace.read_text().splitlines())


@dataclass
class Lane:
    """One lane: see the module. Use it in one thread at a time."""

    client: Any
    checker: Checker
    remote: RemoteServer
    endpoint: Receiver
    directory: Path
    environment: dict[str, str]
    _source: subprocess.Popen[str]
    _references: dict[str, dict[str, str]] = field(default_factory=dict)
    _asking: list[threading.Thread] = field(default_factory=list)
    _give_up: threading.Event = field(default_factory=threading.Event)
    _started: list[Process] = field(default_factory=list)

    def start(
        self,
        roles: tuple[str, ...] = (),
        fault: dict[str, Any] | None = None,
        *,
        command: Sequence[str] = (),
        later_s: float = 0.0,
        sabotage: str = "",
        whole_video_bytes: int | None = None,
        **settings: str,
    ) -> Process:
        """Start a process of the service, or of a command. Do not wait until the service is ready.

        The clock of a sweep is ``later_s`` seconds ahead.
        """
        name = secrets.token_hex(4)
        process = Process(0, self.directory / f"{name}.trace", self.directory / f"{name}.log")
        environment = self.environment | {f"AVION_MEDIA_{key}": value for key, value in settings.items()}
        order = {
            "roles": roles,
            "command": command,
            "later_s": later_s,
            "environment": {key: value for key, value in environment.items() if key.startswith("AVION_")},
            "fault": fault,
            "trace": str(process.trace),
            "log": str(process.log),
            "sabotage": sabotage,
            "whole_video_bytes": whole_video_bytes,
        }
        assert self._source.stdin is not None
        assert self._source.stdout is not None
        self._source.stdin.write(json.dumps(order) + "\n")
        self._source.stdin.flush()
        process.pid = int(self._source.stdout.readline())
        self._started.append(process)
        return process

    def kill_all(self) -> None:
        """Kill all processes, and stop the clients. Wait until they are gone: Redis must give a dying one no work."""
        self._end_asking()
        for process in self._started:
            process.kill()
        while any(each.alive() for each in self._started):
            time.sleep(_GONE_S)
        self._started.clear()

    def forget_everything(self, *prefixes: str) -> None:
        """Empty Redis, and remove the objects below these prefixes: by default the journal, from which a new process
        would
        fill Redis again, and the records of moderation."""
        self.client.flushall()
        for prefix in prefixes or (JOURNAL, *MODERATED):
            _remove_objects(self.checker.s3, self.checker.bucket, prefix)
        put_remote_key(self.checker.s3, self.checker.bucket)  # no service starts without it

    def start_over(self) -> None:
        """Remove all media, and all that Redis knows of them."""
        self.checker.ledger.clear()
        self.forget_everything("")

    def wait(self, media_id: str, *, while_alive: Process | None = None, timeout_s: float = SETTLE_S) -> bool:
        """Wait until the media item has ended, and the queues and clients have nothing to do. Return False if the time
        or
        the process ends before that."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.checker.observe(media_id) and not any(each.is_alive() for each in self._asking):
                return True
            if while_alive is not None and not while_alive.alive():
                return False
            time.sleep(_POLL_S)
        return False

    # -- work, as clients and other services create it

    def put_picture(self) -> str:
        """Add an image that must become READY."""
        return self._put_upload("image", PNG, (DATA / _PICTURE).read_bytes(), "READY")

    def put_refused(self) -> str:
        """Add an image that must fail."""
        return self._put_upload("refused", JPEG, (DATA / _CORRUPT).read_bytes(), "FAILED", "corrupt")

    def put_video(self) -> str:
        """Add a small video that must become READY."""
        return self._put_upload("video", MP4, (DATA / _VIDEO).read_bytes(), "READY")

    def put_large_video(self) -> str:
        """Add the same video, long enough to be copied in parts."""
        body = (DATA / _VIDEO).read_bytes()
        padding = _LARGE_BYTES - len(body)
        free_box = padding.to_bytes(4, "big") + b"free" + bytes(padding - 8)
        return self._put_upload("large video", MP4, body + free_box, "READY")

    def put_remote(self) -> str:
        """Add a remote file to cache, from a new server.

        Processes that died at earlier points have left failures of their server, and slots taken until a deadline.
        """
        self.forget_servers("media_cache_queue")
        path = f"/{secrets.token_hex(8)}.png"
        self.remote.files[path] = (DATA / _PICTURE).read_bytes()
        url = f"http://127.0.0.1:{self.remote.url.rpartition(':')[2]}{path}"
        media_id = remote_id_for(url).text
        self._accept(media_id, "remote", "READY")
        self.client.xadd("media_cache_queue", {"task_id": secrets.token_hex(8), "remote_url": url})
        return media_id

    def forget_servers(self, queue: str) -> None:
        """Forget what earlier points have left of servers: failures, slots, and tenants that rest."""
        for key in (key for kind in _OF_SERVERS for key in self.client.scan_iter(f"{kind}:*")):
            self.client.delete(key)
        # A tenant may rest until a breaker closes: scores from 4e15 to 8e15.
        for name, _ in self.client.hscan_iter(f"{{{queue}}}:state", "parked:*"):
            self.client.hdel(f"{{{queue}}}:state", name)
        self.client.zremrangebyscore(f"{{{queue}}}:tenants", 4e15, "(8e15")

    def put_completed(self) -> str:
        """Add an image. A client repeats CompleteMediaUpload until it is acknowledged."""
        media_id = self._upload("completion", PNG, (DATA / _PICTURE).read_bytes(), "READY")
        self.ask(partial(self._complete, media_id))
        return media_id

    def put_completed_in_parts(self) -> str:
        """Add the same for an upload in parts that are not joined yet."""
        media_id = encode_id(datetime.now(UTC), PNG, secrets.randbits(72))
        self._accept(media_id, "completion in parts", "READY")
        upload_id = self._upload_in_parts(media_id, (DATA / _PICTURE).read_bytes())
        self.ask(partial(self._complete, media_id, upload_id))
        return media_id

    def put_lost(self) -> str:
        """Add a completed image whose task is lost, so that only a sweep finds it."""
        media_id = self._upload("sweep", PNG, (DATA / _PICTURE).read_bytes(), "READY")
        self.client.set(key_of("media_status", media_id), "P")
        self.sweep_again()
        return media_id

    def sweep_again(self) -> None:
        """Make the next sweep due now, as if the lease of the last leader and the pause had ended."""
        self.client.delete("media_sweep_leader")
        self.client.hdel("media_sweep", "finished_at", "part", "after")

    def put_deletion(self) -> str:
        """Add a published media item, and delete it. The seats of readers that died at earlier points are free."""
        for key in self.client.scan_iter("{drop_deleted}:*:[0-9]"):
            self.client.delete(key)
        media_id = self._published()
        entry = self.checker.ledger[media_id]
        entry.due = time.time() + DELETE_DELAY_S
        entry.notice_id = self.client.xadd("drop_deleted", {"event": json.dumps({"media_ids": [media_id]})})
        return media_id

    def put_deletion_by_call(self) -> str:
        """Add a published media item. A client repeats DeleteMedia until it is acknowledged."""
        media_id = self._published()
        self.ask(partial(self._delete, media_id))
        return media_id

    def put_block(self) -> str:
        """Add a media item and a copy of it, and let a client block it."""
        bodies = dict.fromkeys(SIZES, (DATA / _THUMBNAIL).read_bytes())
        bodies["original"] = (DATA / _PICTURE).read_bytes() + secrets.token_bytes(8)  # no other is a copy of these two
        digests = {role: hashlib.sha256(body).hexdigest() for role, body in bodies.items()}
        media_id, copy = (encode_id(datetime.now(UTC), PNG, secrets.randbits(72)) for _ in range(2))
        for each, copies in ((media_id, (copy,)), (copy, ())):
            for role, body in bodies.items():
                self.put(keys_of(each)[role], body)
            self.put(f"{OWNER}{each}.{sum(map(len, bodies.values()))}", b"")
            self.put(f"size/{len(bodies['original'])}/{each}", b"")
            self.checker.ledger[each] = Entry(each, Expected("FAILED", "blocked", digests), copies=copies)
        self.ask(partial(self._block, media_id))
        return media_id

    def unblock(self, media_id: str) -> list[str]:
        """Unblock a media item, return what is wrong with what is restored, kill all, and remove its traces."""
        ids = (media_id, *self.checker.ledger[media_id].copies)
        request = wire.UnblockMediaRequest(media_id=media_id).SerializeToString()
        deadline = time.monotonic() + SETTLE_S
        while not self._acknowledged("UnblockMedia", media_id, request) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        while (wrong := self.checker.wrong_with_unblocked(ids)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.kill_all()  # a process that looks at watched blocks would restore what it finds to be missing
        self.checker.forget(ids)
        return wrong

    def _published(self) -> str:
        """Add a published media item, which must end as deleted."""
        media_id = encode_id(datetime.now(UTC), PNG, secrets.randbits(72))
        for role, key in keys_of(media_id).items():
            if role != "incoming":
                self.put(key, role.encode())
        self.put(f"{OWNER}{media_id}.29", b"")
        self.put(f"size/{len('original')}/{media_id}", b"")
        self.checker.ledger[media_id] = Entry(media_id, Expected("DELETED"))
        return media_id

    def _put_upload(self, kind: str, code: int, body: bytes, state: str, reason: str = "") -> str:
        media_id = self._upload(kind, code, body, state, reason)
        fields = {"task_id": secrets.token_hex(8), "media_id": media_id, "type": "thumbnail"}
        self.client.xadd("media_processing_queue", fields)
        return media_id

    def _upload(self, kind: str, code: int, body: bytes, state: str, reason: str = "") -> str:
        media_id = encode_id(datetime.now(UTC), code, secrets.randbits(72))
        self._accept(media_id, kind, state, reason)
        self.put(f"incoming/{media_id}", body)
        return media_id

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Write an object."""
        self.checker.s3.put_object(
            Bucket=self.checker.bucket, Key=key, Body=body, ContentType="image/png", Metadata=dict(metadata or _OWNED)
        )

    def _upload_in_parts(self, media_id: str, body: bytes) -> str:
        """Send an upload of one part, as a client does. Return the upload id, as the service would make it."""
        target: dict[str, Any] = {"Bucket": self.checker.bucket, "Key": f"incoming/{media_id}"}
        store_id = self.checker.s3.create_multipart_upload(**target, ContentType="image/png", Metadata=_OWNED)[
            "UploadId"
        ]
        self.checker.s3.upload_part(**target, UploadId=store_id, PartNumber=1, Body=body)
        self.checker.s3.put_object(Bucket=self.checker.bucket, Key=SECRET, Body=_KEY)
        said = f"{len(body)}.{8 << 20}.{store_id}".encode()
        mac = hmac.digest(_KEY, f"{media_id}\n".encode() + said, "sha256")[:16]
        return base64.urlsafe_b64encode(mac + said).decode().rstrip("=")

    def ask(self, ask: Callable[[], object]) -> None:
        """Run ``ask`` in a thread of its own, as a client, until it is done or the clients are stopped."""
        self._end_asking()
        self._give_up.clear()
        asking = threading.Thread(target=ask, daemon=True)
        self._asking.append(asking)
        asking.start()

    def _end_asking(self) -> None:
        self._give_up.set()
        for each in self._asking:
            each.join(2 * _CALL_S)
        self._asking.clear()

    def _complete(self, media_id: str, upload_id: str = "") -> None:
        """Repeat CompleteMediaUpload until it is acknowledged."""
        request = wire.CompleteMediaUploadRequest(media_id=media_id, upload_id=upload_id).SerializeToString()
        self.repeat("CompleteMediaUpload", media_id, request)

    def _delete(self, media_id: str) -> None:
        """Repeat DeleteMedia until it is acknowledged. From then on the media item must be deleted at every look."""
        request = wire.DeleteMediaRequest(media_ids=[media_id], owner="crash").SerializeToString()
        self.repeat("DeleteMedia", media_id, request)

    def _block(self, media_id: str) -> None:
        """Call BlockMedia until its record is written: from then on it must end without the client."""
        request = wire.BlockMediaRequest(media_id=media_id, note="crash").SerializeToString()
        while not self._give_up.is_set() and not self.checker.block_state(media_id):
            if self._acknowledged("BlockMedia", media_id, request, grpc.StatusCode.INTERNAL):
                self.checker.ledger[media_id].acknowledged = True
                return
            time.sleep(_POLL_S)

    def repeat(self, method: str, media_id: str, request: bytes, *done: grpc.StatusCode) -> bytes | None:
        """Repeat a call until it is acknowledged. Then note that, and return the response; None if the clients are
        stopped.

        ``done`` also mean that an earlier call has succeeded, whose response was lost.
        """
        while not self._give_up.is_set():
            code, response = self.call(method, request)
            if code is grpc.StatusCode.OK or code in done:
                self.checker.ledger[media_id].acknowledged = True
                return response
            if code not in _OUTAGES:
                self.checker.seen.append(f"{media_id}: {method} is {code.name}")
            time.sleep(_POLL_S)
        return None

    def call(self, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
        """Make one call, to which any process may respond, or none. Return its code and its response."""
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        with grpc.insecure_channel(self.environment["AVION_MEDIA_GRPC__BIND"], options=options) as channel:
            try:
                response = channel.unary_unary(f"/avion.MediaService/{method}")(request, timeout=_CALL_S)
            except grpc.RpcError as error:
                return error.code(), b""
        return grpc.StatusCode.OK, response

    def _acknowledged(self, method: str, media_id: str, request: bytes, *expected: grpc.StatusCode) -> bool:
        """Make one call. Methods that need a disk may return INTERNAL."""
        code, _ = self.call(method, request)
        if code not in (grpc.StatusCode.OK, *_OUTAGES, *expected):
            self.checker.seen.append(f"{media_id}: {method} is {code.name}")
        return code is grpc.StatusCode.OK

    def _accept(self, media_id: str, kind: str, state: str, reason: str = "") -> None:
        self.checker.ledger[media_id] = Entry(media_id, Expected(state, reason, self._references.get(kind)))

    def remember(self, kind: str, media_id: str) -> None:
        """Remember the results of an undisturbed run: every other run of the kind must have the same."""
        self._references[kind] = self.checker.objects(media_id)


@contextmanager
def open_lane(s3: S3Address) -> Iterator[Lane]:
    """Open a lane. Afterwards everything is stopped and removed."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server())
        client = stack.enter_context(redis.Redis.from_url(url, decode_responses=True))
        directory = stack.enter_context(working_directory("crash"))
        remote = stack.enter_context(remote_server({}))
        hook = stack.enter_context(receiver())
        endpoints = directory / "endpoints.json"
        endpoints.write_text(json.dumps([endpoint("crash", hook.url, events=[HOOKED])]))
        s3_client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            config=BotoConfig(connect_timeout=5, read_timeout=20, s3={"addressing_style": "path"}),
        )
        stack.callback(s3_client.close)
        bucket = f"crash-{secrets.token_hex(6)}"
        s3_client.create_bucket(Bucket=bucket)
        put_remote_key(s3_client, bucket)
        stack.callback(_remove_bucket, s3_client, bucket)
        environment = _environment(url, s3, bucket, endpoints) | {"XDG_STATE_HOME": str(directory)}
        source = stack.enter_context(_source(environment))
        checker = Checker(client, s3_client, bucket, environment["AVION_MEDIA_HTTP__BIND"])
        yield Lane(client, checker, remote, hook, directory, environment, source)


def _environment(redis_url: str, s3: S3Address, bucket: str, endpoints: Path) -> dict[str, str]:
    environment = service_environment(
        redis_url,
        s3.endpoint_url,
        bucket,
        ADMIN__BIND="127.0.0.1:0",
        TASKS__CLAIM_AFTER=f"{CLAIM_AFTER_S}s",
        TASKS__BACKOFF="50ms",
        REDIS__TIMEOUT="1s",
        S3__TIMEOUT="5s",
        DELETE__DELAY=f"{DELETE_DELAY_S}s",
        REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
        SANDBOX__SLOTS="1",
        SWEEP__MARGIN="0s",
        MODERATION__RELOAD="1s",
        WEBHOOKS__ENDPOINTS_FILE=str(endpoints),
    )
    return environment | {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def _source(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.crash.faulty"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as source:
        try:
            yield source
        finally:
            with suppress(ProcessLookupError):
                os.killpg(source.pid, signal.SIGKILL)


def _remove_bucket(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
        for upload in page.get("Uploads", ()):
            client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    _remove_objects(client, bucket)
    client.delete_bucket(Bucket=bucket)


def _remove_objects(client: Any, bucket: str, prefix: str = "") -> None:
    for listed in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        if listed.get("Contents"):
            client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": each["Key"]} for each in listed["Contents"]]}
            )


Put = Callable[[Lane], str]
