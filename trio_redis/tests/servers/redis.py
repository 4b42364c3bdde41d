"""A redis-server or valkey-server of its own: nothing on disk unless asked, no eviction, database 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import redis

from .process import Program, free_port, require, working_directory

Flavour = Literal["redis", "valkey"]
_PROGRAMS = {"redis": "redis-server", "valkey": "valkey-server"}  # the packages are called the same


class RedisServer:
    """A server on a fixed port of 127.0.0.1 that can be killed, and started again with what it wrote to its directory.

    Raises ServiceFailed.
    """

    def __init__(self, directory: Path, *arguments: str, flavour: Flavour = "redis") -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._arguments = arguments
        self._flavour = flavour
        self._program: Program | None = None

    def start(self) -> None:
        """Start it; it answers afterwards, which with a file on a busy disk comes seconds after its port is open."""
        program = _PROGRAMS[self._flavour]
        self._program = Program(
            [
                require(program, program), "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self._directory), "--save", "", "--appendonly", "no",
                "--maxmemory-policy", "noeviction", "--daemonize", "no", *self._arguments,
            ],
            self._directory / "redis.log",
        )  # fmt: skip
        self._program.wait_until(self._responds, timeout_s=30)

    def _responds(self) -> bool:
        try:
            self.ask("PING")
        except (redis.AuthenticationError, redis.ResponseError):
            return True
        except (redis.RedisError, OSError):
            return False
        return True

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._program is not None
        return self._program.pid

    def client(self) -> Any:
        """A new client to this server alone; close it."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def ask(self, *command: str | int) -> Any:
        """One command."""
        with self.client() as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """SIGKILL. Safe to repeat."""
        if self._program is not None:
            self._program.kill()

    def stop(self) -> None:
        """SIGTERM. Safe to repeat."""
        if self._program is not None:
            self._program.stop()


@contextmanager
def redis_server(*arguments: str, flavour: Flavour = "redis") -> Iterator[str]:
    """Start a server with these extra arguments and yield its URL. Raises ServiceFailed."""
    with working_directory(flavour) as directory:
        server = RedisServer(directory, *arguments, flavour=flavour)
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


def answers(server: RedisServer, *command: str | int) -> Any:
    """What a server says, or None while it says nothing."""
    with suppress(redis.RedisError, OSError):
        return server.ask(*command)
    return None
