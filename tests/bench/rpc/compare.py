"""Both servers up, one client at a time, server CPU from /proc before and after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.processes import cpu_s
from tests.bench.setting import Setting
from tests.services.process import free_port

UPLOADS = ("upload", 4, 8)  # over 4 connections, 8 in flight on each
_CLIENT_S = 120
_HERE = Path(__file__).parent


def measure(setting: Setting) -> list[Figure]:
    """Calls per second of server CPU: the real service as it is deployed, telemetry and all, against a bare handler;
    and the transport alone, where no calls overlap, and where each connection is new."""
    environment = setting.service_environment()
    their_address = f"127.0.0.1:{free_port()}"
    with setting.running(environment, roles="grpc") as service, _grpcio(their_address, environment) as their_pid:
        sides = ((service.process.pid, service.grpc_address), (their_pid, their_address))
        uploads = _pairs(sides, UPLOADS, 8000, quick=setting.quick)
    with _echo("ours") as ours, _echo("grpcio") as theirs:
        # These last a second or half of one each, so the median of a few is mostly noise.
        one_at_a_time = _pairs((ours, theirs), ("echo", 1, 1), 4000, rounds=15, quick=setting.quick)
        connections = _pairs((ours, theirs), ("connect", 4), 2000, rounds=15, quick=setting.quick)
    return [
        uploads.figure("RequestMediaUpload", "calls / CPU s", Goal(3.3, at_least=True)),
        one_at_a_time.figure("echo, one call at a time", "calls / CPU s", Goal(1.9, at_least=True)),
        connections.figure("connections set up and closed", "1 / CPU s", Goal(1.0, at_least=True)),
    ]


Side = tuple[int, str]
"""Process id and address of a server."""


def _pairs(sides: tuple[Side, Side], load: tuple[str | int, ...], count: int, *, rounds: int = 5, quick: bool) -> Pairs:
    ours, theirs = (partial(per_cpu_s, *side, load, 200 if quick else count) for side in sides)
    if not quick:
        Pairs.taken(1, ours, theirs)  # warm-up
    return Pairs.taken(1 if quick else rounds, ours, theirs)


def per_cpu_s(pid: int, address: str, load: tuple[str | int, ...], count: int) -> float:
    """Run the client once. Return how many of its calls or connections the server takes in a second of CPU."""
    before = cpu_s(pid)
    run_client(address, load, count)
    return count / max(0.01, cpu_s(pid) - before)


def run_client(address: str, load: tuple[str | int, ...], count: int) -> None:
    """Run the client once: see its usage."""
    what, *numbers = load
    command = [sys.executable, "-m", "tests.bench.rpc.client", what, address, *numbers, count]
    subprocess.run(list(map(str, command)), check=True, timeout=_CLIENT_S)


@contextmanager
def _echo(which: str) -> Iterator[Side]:
    command = [sys.executable, "-m", "tests.bench.rpc.echo", which]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextmanager
def _grpcio(address: str, environment: Mapping[str, str]) -> Iterator[int]:
    """The other server; gives its process id."""
    command = [sys.executable, "-m", "tests.bench.rpc.grpcio_server", address]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise SystemExit("grpcio's server did not start")
            yield process.pid
        finally:
            process.stdin.close()
