"""A redis-server of its own: nothing on disk, no eviction, database 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.services.process import accepts_connections, free_port, require, running, working_directory


@contextmanager
def redis_server(*arguments: str) -> Iterator[str]:
    """Start redis-server with these extra arguments and yield its URL. Raises ServiceFailed."""
    program = require("redis-server", "redis-server")
    with working_directory("redis") as directory:
        port = free_port()
        command = [
            program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "",
            "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no", *arguments,
        ]  # fmt: skip
        with running([*command], directory / "redis.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=10)
            yield f"redis://127.0.0.1:{port}/0"
