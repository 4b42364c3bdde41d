"""The world of the random chaos: two replicas, Redis and Ceph of its own, and proxies between them.

Processes die with the thread that started them, by the kernel's parent-death signal. So one thread starts all of them,
which runs `World.watch`; other threads send it orders.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import redis
from botocore.config import Config as BotoConfig

from tests.chaos.random_proxy import Proxy, open_proxies
from tests.remote_ids import put_remote_key
from tests.service.faults import DurableRedis, durable_redis
from tests.service.harness import service_environment
from tests.service.published import GROUP, QUEUES
from tests.service.remote_server import RemoteServer, remote_server
from tests.services import CephNode, S3Address, ceph_node
from tests.services.process import working_directory

BUCKET = "random-chaos"
PROGRAM = (sys.executable, "-m", "tests.chaos.random_replica")
CLAIM_AFTER_S = 3.0
DELETE_DELAY_S = 4.0
_WATCH_S = 0.05
_START_S = 180.0  # the machine may be busy


class Replica:
    """One process of the service, which is started again at the same addresses each time that it died."""

    def __init__(self, name: str, environment: dict[str, str], log: Path, program: Sequence[str]) -> None:
        self.name = name
        self.environment = environment
        self.log = log
        self.program = program
        self.deaths: list[tuple[int, float]] = []  # pid, Unix time
        self.stops: list[tuple[int, float]] = []  # pid, Unix time of the end of a stop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the present process; 0 between two processes."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Start the process, without waiting until it is ready."""
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self.program]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def revive(self) -> None:
        """Start it again if it is dead."""
        if self._process is not None and self._process.poll() is not None:
            self.deaths.append((self._process.pid, time.time()))
            self.start()

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def ready(self) -> bool:
        """Return whether it reports to be ready."""
        try:
            url = f"http://{self.environment['AVION_MEDIA_ADMIN__BIND']}/readyz"
            return httpx.get(url, trust_env=False, verify=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def end(self) -> int | None:
        """Send SIGTERM, and return the exit status; None if it had to be killed."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None


@dataclass
class World:
    """The world: see the module. ``client`` and ``s3`` do not use the proxies."""

    address: S3Address
    store: CephNode
    redis: DurableRedis
    redis_proxy: Proxy
    store_proxy: Proxy
    remote: RemoteServer
    replicas: list[Replica]
    client: Any  # redis-py, answers decoded
    s3: Any
    attempts: Path
    _orders: SimpleQueue[tuple[Callable[[], None], Future[None]]] = field(default_factory=SimpleQueue)

    def watch(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Carry out orders of `start` until ``until`` holds; return False if that took too long. For one thread."""
        deadline = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > deadline:
                return False
            for replica in self.replicas:
                replica.revive()
            with suppress(Empty):
                order, done = self._orders.get(timeout=_WATCH_S)
                try:
                    order()
                except Exception as error:  # noqa: BLE001 - raised in the thread that asked
                    done.set_exception(error)
                else:
                    done.set_result(None)
        return True

    def start(self, order: Callable[[], None]) -> None:
        """Let the watching thread carry out an order, and wait for that."""
        done: Future[None] = Future()
        self._orders.put((order, done))
        done.result(120)

    def in_hand(self, replica: Replica | None = None) -> set[str]:
        """Return the media items whose tasks are leased by one replica, or by any."""
        found: set[str] = set()
        with suppress(redis.RedisError):
            for queue in QUEUES:
                rows = self.client.xpending_range(queue, GROUP, "-", "+", 100)
                mine = {row["message_id"] for row in rows if replica is None or f"-{replica.pid}-" in row["consumer"]}
                fields = [entry for entry_id, entry in self.client.xrange(queue, "-", "+", 500) if entry_id in mine]
                found |= {entry["media_id"] for entry in fields if "media_id" in entry}
        return found


@contextmanager
def open_world(program: Sequence[str] = PROGRAM, **settings: str) -> Iterator[World]:
    """Start everything, with both replicas ready. Afterwards all of it is stopped. ``settings`` of the service, without
    the prefix."""
    with ExitStack() as stack:
        store = stack.enter_context(ceph_node())
        address = store.create_user()
        server = stack.enter_context(durable_redis())
        ports = (urlsplit(server.url).port, urlsplit(address.endpoint_url).port)
        redis_proxy, store_proxy = stack.enter_context(open_proxies(*(port for port in ports if port)))
        directory = stack.enter_context(working_directory("chaos"))
        client = stack.enter_context(redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=20))
        s3 = _s3_client(address)
        stack.callback(s3.close)
        s3.create_bucket(Bucket=BUCKET)
        put_remote_key(s3, BUCKET)
        environments = [
            _environment(address, redis_proxy, store_proxy, settings)
            | {"AVION_CHAOS_ATTEMPTS": str(directory / "attempts")}
            for _ in range(2)
        ]
        (directory / "attempts").touch()
        replicas = [
            Replica(str(n), each, directory / f"replica-{n}.log", program) for n, each in enumerate(environments)
        ]
        world = World(
            address, store, server, redis_proxy, store_proxy, stack.enter_context(remote_server({})),
            replicas, client, s3, directory / "attempts",
        )  # fmt: skip
        stack.callback(lambda: [each.end() for each in replicas])
        for replica in replicas:
            replica.start()
        ready = world.watch(lambda: all(each.ready() for each in replicas), _START_S)
        assert ready, replicas[0].log.read_text()[-3000:]
        yield world


def _environment(
    address: S3Address, redis_proxy: Proxy, store_proxy: Proxy, settings: dict[str, str]
) -> dict[str, str]:
    ours = {
        "TASKS__CLAIM_AFTER": f"{CLAIM_AFTER_S}s",
        "REDIS__TIMEOUT": "2s",
        "S3__TIMEOUT": "3s",
        "DELETE__DELAY": f"{DELETE_DELAY_S}s",
        "REMOTE__ALLOW_NETWORKS": "127.0.0.0/8",
    }
    environment = service_environment(
        f"redis://127.0.0.1:{redis_proxy.port}/0",
        f"http://127.0.0.1:{store_proxy.port}",
        BUCKET,
        **ours | settings,
    )
    return environment | {
        "AWS_ACCESS_KEY_ID": address.access_key,
        "AWS_SECRET_ACCESS_KEY": address.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _s3_client(address: S3Address) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
        config=BotoConfig(connect_timeout=3, read_timeout=10, max_pool_connections=20, s3={"addressing_style": "path"}),
    )


class Background(threading.Thread):
    """A thread that works in turns until a request to stop. Its error is kept in ``failure``."""

    def __init__(self, name: str, turn: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self._turn = turn

    def run(self) -> None:
        """Take turns until a request to stop."""
        try:
            while not self.stopping.is_set():
                self._turn()
        except BaseException as error:  # noqa: BLE001 - told in the report
            self.failure = error
