"""Whole replicas in a simulation: the tree of the service on simulated sockets, with models of Redis and the store.

Two parts are not simulated:

- the decoders: `Bench` accepts everything as a picture, in the process;
- requests by botocore, in threads with blocking sockets: they reach the model at once, without the network.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from operator import methodcaller
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import botocore.awsrequest
import trio
from botocore.compat import HTTPHeaders

from avion_media import app
from avion_media.backends.store import clients
from avion_media.common import keys
from avion_media.common.ids import parse_media_id
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.common.wire.avion.media_grpc import MediaServiceStub
from avion_media.config import Config
from avion_media.nodes import foundation
from avion_media.process.runtime import Runtime
from supervisors import Child
from tests.crash.stage import PNG_HEAD, Bench
from tests.remote_ids import REMOTE_IDS
from trio_grpc import CallError, open_channel, running
from trio_simulation import Fault, Run, Simulation, attempt
from trio_simulation.redis import RedisModel
from trio_simulation.s3 import Request, S3Model
from trio_simulation.tests.http_client import request

BUCKET = "avion-media"
ROLES = frozenset({"grpc", "processing", "delete", "sweeper", "events", "http"})
SETTINGS = {
    "redis": {"url": "redis://redis:6379/0"},
    "s3": {"endpoint_url": "http://store", "bucket": BUCKET, "upload_acl": ""},
    "grpc": {"bind": "0.0.0.0:50051"},
    "http": {"bind": "0.0.0.0:8080"},
    "admin": {"bind": "0.0.0.0:9090"},
    "tasks": {"claim_after": 15},
    "delete": {"delay": 15},
    "sweep": {"interval": 60, "margin": 90},
}
READY_S = 10.0
CALL_S = 5.0
CALLS_S = 60.0
KILL_AND_PARTITION = (
    Fault("kill", READY_S + 0.5, 3.0, ("one",)),
    Fault("partition", READY_S + 2.0, 8.0, ("two", "redis")),
    Fault("store refuses", READY_S + 3.0, 4.0, ("store",), amount=0.5),
)


class SlowBench(Bench):
    """Takes its time, as a decoder does."""

    async def process(self, *arguments: Any, **options: Any) -> Any:
        await trio.sleep(random.uniform(0.02, 1.5))
        return await super().process(*arguments, **options)


class _Report:
    landlock_abi = 0
    seccomp = True
    drops_root = True
    gaps = ()


class _Sandbox:
    report = _Report


async def _sandbox(runtime: Runtime, child: Child[None]) -> None:
    bench: Any = SlowBench(runtime.config.thumbnails.sizes)
    bench.sandbox = _Sandbox
    with runtime.pipeline.filled(bench):
        child.started()
        with child.until_stopping():
            await trio.sleep_forever()


class Replicas:
    """Redis, a store and replicas of the service."""

    def __init__(self, simulation: Simulation, names: tuple[str, ...]) -> None:
        self.redis = RedisModel()
        self.store = S3Model(BUCKET)
        self.store.answer(Request.of("PUT", f"/{BUCKET}/{keys.REMOTE_SECRET}", {}, REMOTE_IDS.key))  # as `init` does
        self._names = names
        simulation.fault_kinds["failover"] = self.redis.failover_fault()
        simulation.fault_kinds.update(self.store.fault_kinds())
        simulation.node("redis").start(self.redis.serve)
        simulation.node("store").start(self.store.serve)
        for name in names:
            simulation.node(name).start(self._replica, restart_after_s=2.0)

    async def _replica(self) -> None:
        config = Config.model_validate(SETTINGS)
        runtime = Runtime(config, ROLES, consumer=f"{os.getpid()}-{secrets.token_hex(4)}")
        with patch.object(foundation, "sandbox", _sandbox):
            tree = app.build_tree(runtime, config)
        await tree.root.run()

    async def call(self, name: str, message: Any) -> Any:
        """Make one call to a replica that accepts any."""
        with trio.fail_after(CALLS_S):
            for node in cycle(self._names):
                with suppress(OSError, CallError, trio.TooSlowError), trio.fail_after(CALL_S):
                    async with open_channel(node, 50051) as channel:
                        return await getattr(MediaServiceStub(channel), name)(message)
                await trio.sleep(0.5)
        raise AssertionError("fail_after raises")

    async def upload(self, body: bytes) -> str:
        """Upload a picture, and return its id once it is accepted."""
        asked = wire.RequestMediaUploadRequest(
            filename="a.png", content_type="image/png", size=len(body), owner="somebody"
        )
        allowed = await self.call("RequestMediaUpload", asked)
        place = urlsplit(allowed.upload_url)
        # The order of a map of protobuf differs from run to run.
        headers = {
            name.lower(): value
            for name, value in sorted(allowed.upload_headers.items())
            if name.lower() not in ("host", "content-length")
        }
        async with await trio.open_tcp_stream("store", 80) as stream:
            status, _, answer = await request(stream, "PUT", "store", f"{place.path}?{place.query}", headers, body)
        assert status == 200, answer
        await self.call("CompleteMediaUpload", wire.CompleteMediaUploadRequest(media_id=allowed.media_id))
        return str(allowed.media_id)

    async def until_done(self, media_id: str) -> int:
        """Return the state of an upload, once it is the last one."""
        while True:
            found = await self.call("GetMediaStatus", wire.GetMediaStatusRequest(media_id=media_id))
            if found.state in (wire.MediaStatus.READY, wire.MediaStatus.FAILED):
                return int(found.state)
            await trio.sleep(0.5)


@contextmanager
def botocore_on(models: list[S3Model]) -> Iterator[None]:
    """Send requests of botocore to the newest model. Its client is made once: that takes half a second."""
    made: list[Any] = []
    make = clients.Clients._make_client

    def make_client(self: clients.Clients) -> Any:
        if not made:
            made.append(make(self))
            made[0][0].meta.events.register_first("before-send.s3", send)
        return made[0]

    def send(request: Any, **_: Any) -> botocore.awsrequest.AWSResponse:
        place = urlsplit(request.url)
        body = request.body or b""
        data = body.read() if hasattr(body, "read") else body
        named = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        asked = Request.of(request.method, f"{place.path}?{place.query}", named, data)
        answer = models[-1].answer(asked)
        headers = HTTPHeaders.from_dict(dict(answer.headers))
        return botocore.awsrequest.AWSResponse(request.url, answer.status, headers, _Raw(answer.body))

    environment = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
    with patch.dict(os.environ, environment), patch.object(clients.Clients, "_make_client", make_client):
        clients.Clients(Config.model_validate(SETTINGS).s3)._make_client()
        yield


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


def run_uploads(seed: int, faults: tuple[Fault, ...] = ()) -> Run:
    """Run two replicas and three uploads, and check that each is ready."""
    models: list[S3Model] = []

    async def scenario(simulation: Simulation) -> None:
        replicas = Replicas(simulation, ("one", "two"))
        models.append(replicas.store)
        await trio.sleep(READY_S)
        accepted = [await replicas.upload(PNG_HEAD + b"%d" % number) for number in range(3)]
        await simulation.until_faults_are_over()
        for media_id in accepted:
            assert await replicas.until_done(media_id) == wire.MediaStatus.READY
            assert keys.original(parse_media_id(media_id)) in replicas.store.objects

    # Protobuf writes maps in another order in each process.
    make: Any = running.Method.__init__
    in_order = methodcaller("SerializeToString", deterministic=True)
    defaults = tuple(in_order if each is running._serialize else each for each in make.__defaults__)
    with botocore_on(models), patch.object(make, "__defaults__", defaults):
        return attempt(scenario, seed=seed, faults=faults, limit_s=300)


if __name__ == "__main__":
    # Each start and end of a node, which a killed process logs as well.
    logging.getLogger("supervisors.events").disabled = True
    done = run_uploads(int(sys.argv[1]), KILL_AND_PARTITION if "faults" in sys.argv else ())
    if done.error is not None:
        raise done.error
    print(f"{done.virtual_s:.1f} s")
    print(done.digest)
