"""What the commands of the pages work on: Redis with a password, a Ceph, the whole service, an operator's shell."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import redis as redis_py
from PIL import Image

from avion_media.common.wire.avion import media_pb2 as wire
from tests.printed.commands import ROOT
from tests.service.commands import SHELL_COMMAND
from tests.service.harness import Service, eventually, running, service_environment
from tests.services import CephNode, RedisServer, S3Address, ceph_node, redis_server
from tests.services.http import serving
from tests.services.process import free_port, require, working_directory

BUCKET = "avion-media"
PASSWORD = "old-password"  # as docs/how-to/rotate-credentials.md prints it
CALLER_TOKEN = "0123456789abcdef0123456789abcdef"
OPERATOR_TOKEN = "fedcba9876543210fedcba9876543210"
COMMAND_S = 120.0
_CALLERS = """\
[callers.gateway]
methods = ["*"]
tokens_sha256 = ["{hash}"]
"""


@dataclass
class Outside:
    """The servers of others: the moderation hook, an endpoint of webhooks, a cache, a collector of traces."""

    port: int
    action: str = "publish"
    authorization: str = ""
    answers: dict[str, int] = field(default_factory=dict)  # statuses other than 200, by path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def outside() -> Iterator[Outside]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path == "/hook":
                there.authorization = self.headers.get("authorization", "")
            body = json.dumps({"action": there.action, "label": "a test"}).encode() if self.path == "/hook" else b""
            self.send_response(there.answers.get(self.path if self.command == "POST" else "PURGE", 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PURGE = do_POST

    with serving(Handler) as port:
        there = Outside(port)
        yield there


@dataclass
class World:
    """One running service, and the shell of its operator, who stands in a copy of the repository's `ops`."""

    folder: Path
    store: CephNode
    address: S3Address
    redis: RedisServer
    outside: Outside
    environment: dict[str, str]
    _servers: ExitStack
    service: Service = field(init=False)
    _running: ExitStack = field(default_factory=ExitStack)
    _seen: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=lambda: random.Random(38))

    def serve(self, **settings: str) -> None:
        """Start the service, or start it again: SIGTERM, and the same with other settings."""
        self.close()
        self.environment |= settings
        self._running = ExitStack()
        program = (str(Path(sys.executable).with_name("avion-media")),)
        self.service = self._running.enter_context(running(self.environment, program=program))
        self.service.token = CALLER_TOKEN

    def beside(self, **settings: str) -> Service:
        """Start another process that only answers calls. It is stopped with the service."""
        ports = {f"AVION_MEDIA_{name}__BIND": f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
        return self._running.enter_context(running(self.environment | ports | settings, roles="grpc"))

    def close(self) -> None:
        """Stop the service."""
        self._running.close()

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a shell does, in the operator's folder."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def run_once(self, command: str, **_environment: str) -> subprocess.CompletedProcess[str]:
        """The same. A command that changes nothing, takes seconds and is on many pages is run for the first of them."""
        if not command.startswith(("avion-media doctor", "avion-media config")):
            return self.run(command)
        name = command.partition("#")[0].strip()
        if name not in self._seen:
            self._seen[name] = self.run(command)
        return self._seen[name]

    def redis_client(self) -> Any:
        return redis_py.Redis.from_url(self.environment["AVION_MEDIA_REDIS__URL"], decode_responses=True)

    def bucket(self, name: str) -> Any:
        """A client of the store, whose bucket of this name exists."""
        client = boto3.client(
            "s3",
            endpoint_url=self.address.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=name)
        return client

    def empty(self, client: Any, bucket: str = BUCKET) -> None:
        """Remove everything from a bucket, also its rules."""
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            found = [{"Key": each["Key"]} for each in page.get("Contents", ())]
            client.delete_objects(Bucket=bucket, Delete={"Objects": found})
        client.delete_bucket_lifecycle(Bucket=bucket)
        client.delete_bucket_cors(Bucket=bucket)

    def another_redis(self) -> str:
        """The URL of an empty Redis, which runs until the end."""
        return self._servers.enter_context(redis_server())

    def new_certificate(self, path: Path) -> None:
        """Write a key and a certificate of its own."""
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
        done = self.run(f"{make} -keyout {path}.key -out {path}.crt && cat {path}.key {path}.crt >{path}")
        assert done.returncode == 0, done.stderr

    def newest_keys(self) -> dict[str, str]:
        """The keys of the store's user that the service does not use yet."""
        user = json.loads(self.run("radosgw-admin user info --uid=avion").stdout)
        (found,) = (
            each
            for each in user["keys"]
            if each["user"] == "avion" and each["access_key"] != self.environment["AWS_ACCESS_KEY_ID"]
        )
        return {"AWS_ACCESS_KEY_ID": found["access_key"], "AWS_SECRET_ACCESS_KEY": found["secret_key"]}

    # -- what a page presumes

    def picture(self) -> bytes:
        """A picture like no other."""
        picture = Image.frombytes("RGB", (64, 64), self._chance.randbytes(64 * 64 * 3))
        written = io.BytesIO()
        picture.save(written, "PNG")
        return written.getvalue()

    def upload(self, *, private: bool = False, wait: bool = True) -> str:
        """Upload a picture of alice, and return its id when it is published or held."""
        body = self.picture()
        visibility = wire.MEDIA_VISIBILITY_PRIVATE if private else wire.MEDIA_VISIBILITY_PUBLIC
        request = wire.RequestMediaUploadRequest(
            filename="photo.png", content_type="image/png", size=len(body), owner="alice", visibility=visibility
        )
        granted = self.service.call("RequestMediaUpload", request, wire.RequestMediaUploadResponse)
        assert self.service.put(granted, body).status_code == 200
        media_id = str(granted.media_id)
        self.service.complete(media_id)

        def ended() -> bool:
            status = self.service.status(media_id)
            return status.state == wire.MediaStatus.READY or status.reason == "held"

        if wait:
            eventually(ended, f"{media_id} to be published or held")
        return media_id

    def held(self) -> str:
        """Upload a picture that the hook has held for a moderator."""
        self.outside.action = "hold"
        try:
            return self.upload()
        finally:
            self.outside.action = "publish"

    def dead_letter(self, copies: int = 1) -> str:
        """A task that crashed three workers; its media item is there. Return the entry's id."""
        fields = {"task_id": f"task-{self._chance.random()}", "media_id": self.upload(), "type": "thumbnail"}
        when = f"{time.time():.3f}"
        failed = {"error": "poison: 3 workers crashed with it", "attempts": "4", "failed_at": when, "first_seen": when}
        with self.redis_client() as client:
            for _each in range(copies):
                entry = str(client.xadd("{media_processing_queue}:dlq", fields | failed))
        return entry

    def queued_task(self) -> str:
        """Upload a picture while the queue is paused, and return the id of its task."""
        media_id = self.upload(wait=False)
        found = json.loads(self.run(f"avion-media inspect {media_id} --json").stdout)
        return str(found["tasks"][0]["task_id"])

    def job(self) -> str:
        """The id of the newest job that is not over."""
        jobs = json.loads(self.run("avion-media jobs --json").stdout)
        return str(next(each["job"] for each in jobs if each["state"] in {"running", "paused"}))


@contextmanager
def open_world() -> Iterator[World]:
    """Start everything once. The service listens on free ports; all else is as the pages have it."""
    with ExitStack() as stack:
        folder = stack.enter_context(working_directory("operator"))
        shutil.copytree(ROOT / "ops", folder / "ops", ignore=shutil.ignore_patterns(".env", "access", "__pycache__"))
        store = stack.enter_context(ceph_node())
        address = store.create_user()
        redis_folder = stack.enter_context(working_directory("redis"))
        redis = RedisServer(redis_folder, "--requirepass", PASSWORD, "--appendonly", "yes")
        redis.start()
        stack.callback(redis.stop)
        others = stack.enter_context(outside())
        access = folder / "access"
        access.mkdir()
        (access / "callers.toml").write_text(_CALLERS.format(hash=hashlib.sha256(CALLER_TOKEN.encode()).hexdigest()))
        (access / "admin-tokens").write_text(OPERATOR_TOKEN + "\n")
        hook = {"name": "posts", "url": f"{others.url}/events", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}
        endpoint = hook | {"events": ["media.ready"], "insecure": True, "internal": True}
        (access / "endpoints.json").write_text(json.dumps([endpoint]))
        settings = service_environment(
            f"redis://:{PASSWORD}@127.0.0.1:{redis.port}/0",
            address.endpoint_url,
            BUCKET,
            GRPC__AUTH="token",
            GRPC__CALLERS_FILE=str(access / "callers.toml"),
            ADMIN__TOKEN_FILE=str(access / "admin-tokens"),
            CDN__PURGE_URLS=others.url,
            MODERATION__HOOK_URL=f"{others.url}/hook",
            WEBHOOKS__ENDPOINTS_FILE=str(access / "endpoints.json"),
            REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
            LOG__FORMAT="console",
        )
        settings.pop("AWS_CA_BUNDLE", None)  # of this machine; rclone does not take it
        programs = _programs(folder, redis.port, stack)
        shell = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": address.access_key,
            "AWS_SECRET_ACCESS_KEY": address.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "REDISCLI_AUTH": PASSWORD,
            "CEPH_CONF": str(store.configuration),
            "PREPARE_IN": str(folder / "ops/compose"),
            **_remotes(address),
        }
        world = World(folder, store, address, redis, others, settings | shell, stack)
        stack.callback(world.close)
        world.bucket(BUCKET)
        done = world.run("avion-media init")
        assert done.returncode == 0, done.stderr
        world.serve()
        yield world


def _remotes(address: S3Address) -> dict[str, str]:
    """The remotes of rclone that the pages name. All lead to the one store; the buckets differ."""
    settings = {"TYPE": "s3", "PROVIDER": "Ceph", "ENV_AUTH": "true", "ENDPOINT": address.endpoint_url}
    names = ("STORE", "BACKUP", "OLD", "NEW", "FIRST", "SECOND")
    return {f"RCLONE_CONFIG_{name}_{key}": value for name in names for key, value in settings.items()}


def _programs(folder: Path, redis_port: int, stack: ExitStack) -> Path:
    """A folder with `avion-media`, and a `redis-cli` that finds Redis at its usual port and fails on an error."""
    programs = folder / "bin"
    programs.mkdir()
    redis_cli = require("redis-cli", "redis-tools")
    (programs / "redis-cli").write_text(f'#!/bin/sh\nexec {redis_cli} -e -p {redis_port} "$@"\n')
    (programs / "avion-media").write_text(SHELL_COMMAND)
    for program in programs.iterdir():
        program.chmod(0o755)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    listener.bind(str(programs / "forker"))
    listener.listen(16)
    script = f"from tests.service.commands import answer_shells; answer_shells({listener.fileno()})"
    forker = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, pass_fds=[listener.fileno()])
    stack.callback(forker.wait)
    stack.callback(forker.kill)
    return programs


Value = str | Callable[[], str]


def filled_in(command: str, values: Mapping[str, Value]) -> str:
    """A command with its placeholders replaced. The keys are regular expressions, of which earlier ones count first."""
    patterns = list(values)

    def value_of(match: re.Match[str]) -> str:
        value = values[patterns[next(index for index, group in enumerate(match.groups()) if group is not None)]]
        return value if isinstance(value, str) else value()

    return re.sub("|".join(f"({pattern})" for pattern in patterns), value_of, command)
