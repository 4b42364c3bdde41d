"""Both servers up, one client at a time, server CPU from /proc before and after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.processes import cpu_s
from tests.bench.setting import Setting
from tests.service.harness import running
from tests.services.process import free_port

CONNECTIONS = 4
IN_FLIGHT = 8  # on each
_CLIENT_S = 120
_HERE = Path(__file__).parent


def measure(setting: Setting) -> list[Figure]:
    """Calls per second of server CPU; the real service as it is deployed, telemetry and all, against a bare handler."""
    calls, rounds = (200, 1) if setting.quick else (8000, 5)
    environment = setting.service_environment()
    their_address = f"127.0.0.1:{free_port()}"
    with running(environment, roles="grpc") as service, _grpcio(their_address, environment) as their_pid:

        def ours() -> float:
            return _calls_per_cpu_s(service.process.pid, service.grpc_address, calls)

        def theirs() -> float:
            return _calls_per_cpu_s(their_pid, their_address, calls)

        if not setting.quick:
            Pairs.taken(1, ours, theirs)  # warm-up
        pairs = Pairs.taken(rounds, ours, theirs)
    return [pairs.figure("RequestMediaUpload", "calls / CPU s", Goal(2.0, at_least=True))]


def _calls_per_cpu_s(pid: int, address: str, calls: int) -> float:
    before = cpu_s(pid)
    command = [sys.executable, "-m", "tests.bench.rpc.client", address, CONNECTIONS, IN_FLIGHT, calls]
    subprocess.run(list(map(str, command)), check=True, timeout=_CLIENT_S)
    return calls / (cpu_s(pid) - before)


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
