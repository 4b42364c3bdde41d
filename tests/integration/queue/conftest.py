"""Redis alone, and Redis as a cluster node that owns all slots: there, a script whose keys lie apart is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import redis as redis_py

from avion_media.domain.tasks import PROCESSING_QUEUE
from avion_media.queue import TaskQueue
from avion_media.redis import Redis, open_redis
from tests.services import redis_server
from tests.services.process import Program, accepts_connections, free_port, require, working_directory

Client: TypeAlias = Any  # redis-py's types allow for options that no test here uses


@pytest.fixture(scope="session")
def redis_cluster_node() -> Iterator[str]:
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as url:
        with redis_py.Redis.from_url(url) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                pass
        yield url


@pytest.fixture(params=["standalone", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """An empty Redis."""
    name = {"standalone": "redis_of_process", "cluster": "redis_cluster_node"}[request.param]
    url: str = request.getfixturevalue(name)
    with redis_py.Redis.from_url(url) as client:
        client.flushall()
        client.script_flush()
    return url


@pytest.fixture
def other(redis_url: str) -> Iterator[Client]:
    """An independent client: plays the other services and looks at the state."""
    with redis_py.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        yield opened


@pytest.fixture
def queue(redis: Redis) -> TaskQueue:
    return TaskQueue(redis, PROCESSING_QUEUE)


class RestartableRedis:
    """A redis-server on a fixed port that can be killed, stopped for a while and started again; it keeps an AOF."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._program: Program | None = None

    def start(self) -> None:
        self._program = Program(
            [
                require("redis-server", "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", self._directory, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
            ],
            self._directory / "redis.log",
        )  # fmt: skip
        self._program.wait_until(lambda: accepts_connections(self.port), timeout_s=10)

    @property
    def pid(self) -> int:
        assert self._program is not None
        return self._program.pid

    def kill(self) -> None:
        if self._program is not None:
            self._program.kill()


@contextmanager
def restartable() -> Iterator[RestartableRedis]:
    with working_directory("redis") as directory:
        server = RestartableRedis(directory)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture
def server() -> Iterator[RestartableRedis]:
    with restartable() as started:
        yield started
