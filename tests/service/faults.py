"""What goes wrong outside the service: a Redis that dies and comes back, a store that is cut off, frozen decoders."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import trio

from avion_media.process.tree import lasting_path
from tests.service.harness import Service, eventually
from tests.services.faulty_gateway import FaultyGateway, faulty_gateway
from tests.services.process import Program, accepts_connections, free_port, require, working_directory


class DurableRedis:
    """A redis-server that writes every change to disk, and can be killed and started again at its address."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._port = port
        self._directory = directory
        self._program: Program | None = None

    def start(self) -> None:
        """Start it, with what it had."""
        program = require("redis-server", "redis-server")
        command: list[str | Path] = [
            program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
        ]  # fmt: skip
        self._program = Program(command, self._directory / "redis.log")
        self._program.wait_until(lambda: accepts_connections(self._port), timeout_s=10)

    def kill(self) -> None:
        """SIGKILL."""
        if self._program is not None:
            self._program.kill()
            self._program = None


@contextmanager
def durable_redis() -> Iterator[DurableRedis]:
    """One, running."""
    with working_directory("redis") as directory:
        server = DurableRedis(directory, free_port())
        server.start()
        try:
            yield server
        finally:
            server.kill()


class StoreGateway:
    """The only way of a service to the store, which can be cut or stalled. Clients PUT past it."""

    def __init__(self, gateway: FaultyGateway) -> None:
        self.url = gateway.url
        self._gateway = gateway

    def cut(self) -> None:
        """No answer gets through: connections end at its first byte."""
        self._gateway.break_after = 0

    def stall_after(self, size_bytes: int) -> None:
        """Of what a connection answers, no more than this gets through, and it stays open."""
        self._gateway.stall_after = size_bytes

    def restore(self) -> None:
        """All is well again, for new connections."""
        self._gateway.break_after = self._gateway.stall_after = None

    def wait_held(self) -> None:
        """Until an answer was stalled or broken off."""
        eventually(lambda: self._gateway.held.is_set(), "an answer of the store to be held")


@contextmanager
def store_gateway(target_url: str) -> Iterator[StoreGateway]:
    """A gateway in a thread of its own, for tests that block."""
    opened: list[StoreGateway] = []
    stops: list[trio.CancelScope] = []
    tokens: list[trio.lowlevel.TrioToken] = []
    is_open = threading.Event()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with faulty_gateway(target_url) as gateway:
                opened.append(StoreGateway(gateway))
                stops.append(scope)
                tokens.append(trio.lowlevel.current_trio_token())
                is_open.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert is_open.wait(10)
        yield opened[0]
    finally:
        trio.from_thread.run_sync(stops[0].cancel, trio_token=tokens[0])
        thread.join()


def fork_server_pids(service: Service) -> list[int]:
    """The process that forks the confined decoders; two, while one takes over from the other."""
    return fork_servers_of(service.process.pid)


def fork_servers_of(service_pid: int) -> list[int]:
    """The same, by the service's process id."""
    return [pid for pid in children_of(service_pid) if b"trio_sandbox.fork_server" in _command_of(pid)]


def children_of(pid: int) -> list[int]:
    """Of all its threads: the one that started a process is its parent. None when it has ended."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, children.read_text().split())
    return found


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return b""


@contextmanager
def frozen_decoders(service: Service) -> Iterator[None]:
    """No decoding begins or ends in the block: a task that gets there stays where it is."""
    frozen = fork_server_pids(service)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):  # it ended with the service
                os.kill(pid, signal.SIGCONT)


def nodes(service: Service) -> dict[str, dict[str, Any]]:
    """The live tree, by path."""
    return _by_path(httpx.get(f"{service.admin_url}/tree", trust_env=False, verify=False, timeout=30).json())


def _by_path(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {node["path"]: node}
    for child in node["children"]:
        found |= _by_path(child)
    return found


def incarnations(service: Service) -> dict[str, int]:
    """How often each node was started, without those that come and go."""
    return {path: node["incarnation"] for path, node in nodes(service).items() if path == lasting_path(path)}
