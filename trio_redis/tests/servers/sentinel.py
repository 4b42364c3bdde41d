"""A master with a replica, and three Sentinels that watch them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from .process import Program, ServiceFailed, accepts_connections, free_port, require, working_directory
from .redis import RedisServer, answers

MASTER = "media"
_DOWN_AFTER_MS = 1000
_READY_S = 30.0


class Sentinel:
    """One Sentinel on 127.0.0.1. Raises ServiceFailed."""

    def __init__(self, directory: Path, master: RedisServer, quorum: int, epoch: int = 0) -> None:
        """``epoch``: that of the last failover it knows."""
        self.port = free_port()
        self._directory = directory
        # It rewrites this file as it learns.
        self._configuration = directory / "sentinel.conf"
        self._configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {quorum}\n"
            f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
            f"sentinel config-epoch {MASTER} {epoch}\n"
        )
        self._program: Program | None = None

    def start(self) -> None:
        """Start it; it accepts connections afterwards."""
        program = require("redis-sentinel", "redis-sentinel")
        self._program = Program([program, str(self._configuration)], self._directory / "sentinel.log")
        self._program.wait_until(lambda: accepts_connections(self.port), timeout_s=10)

    def ask(self, *command: str) -> Any:
        """One command."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*command)

    def pause(self) -> None:
        """SIGSTOP: connections are accepted, and nobody answers."""
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """SIGKILL. Safe to repeat."""
        if self._program is not None:
            self._program.kill()


class Watched:
    """``master`` and ``replica`` are those at the begin."""

    def __init__(self, directory: Path, *arguments: str, sentinels: int = 3) -> None:
        folders = [directory / name for name in ("master", "replica", *map(str, range(sentinels)))]
        for folder in folders:
            folder.mkdir()
        arguments = ("--repl-diskless-sync-delay", "0", *arguments)
        self.master = RedisServer(folders[0], *arguments)
        self.replica = RedisServer(folders[1], *arguments, "--replicaof", f"127.0.0.1 {self.master.port}")
        self.sentinels = [Sentinel(folder, self.master, sentinels // 2 + 1) for folder in folders[2:]]
        addresses = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel://{addresses}/{MASTER}"

    def start(self) -> None:
        """Start all; the Sentinels know the replica and each other afterwards."""
        self.master.start()
        self.replica.start()
        for sentinel in self.sentinels:
            sentinel.start()
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                raise ServiceFailed(f"the Sentinels were not ready after {_READY_S:g} s")
            time.sleep(0.05)

    def current_master(self) -> int:
        """The port of the master as the first Sentinel sees it."""
        return int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def kill(self) -> None:
        """SIGKILL to all. Safe to repeat."""
        for sentinel in self.sentinels:
            sentinel.kill()
        self.replica.kill()
        self.master.kill()

    def _is_ready(self) -> bool:
        role = answers(self.replica, "ROLE")
        if role is None or role[3] != "connected":
            return False
        states = [each.ask("SENTINEL", "MASTER", MASTER) for each in self.sentinels]
        return all(
            int(_fields(state)["num-slaves"]) == 1
            and int(_fields(state)["num-other-sentinels"]) == len(self.sentinels) - 1
            for state in states
        )


def _fields(state: Any) -> dict[str, Any]:
    return state if isinstance(state, dict) else dict(zip(state[::2], state[1::2], strict=True))


@contextmanager
def watched_redis(*arguments: str, sentinels: int = 3) -> Iterator[Watched]:
    """A master with these extra arguments, a replica and Sentinels, all running."""
    with working_directory("sentinel") as directory:
        watched = Watched(directory, *arguments, sentinels=sentinels)
        try:
            watched.start()
            yield watched
        finally:
            watched.kill()
