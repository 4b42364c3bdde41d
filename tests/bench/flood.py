"""What a flood unit of gRPC costs: each row of the cost table as a flood, in the protocol core without its sockets.

And what an address costs that reconnects whenever it is cut off: the server's share of a core, beside that of a server
whose budget does not survive a reconnect.
"""

from __future__ import annotations

import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.bench.figures import Figure, Goal
from tests.bench.processes import cpu_s
from tests.bench.setting import Setting
from trio_grpc.frames import PREFACE
from trio_grpc.tests.raw_client import pings, settings
from trio_grpc.tests.test_costs import ROWS, Attack, Row

_MOST_US = 25.0  # what `frames` says of a unit
_ATTACK_S, _QUICK_S = 10.0, 0.5
_MOST_SHARE = 0.3  # of what a server took whose budgets are those of single connections
_FLOOD = PREFACE + settings().serialize() + b"".join(frame.serialize() for frame in pings(1100))
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_BUDGET = 900  # of the 1000 units of a connection: what a row's setup takes is in none of them


def measure(setting: Setting) -> list[Figure]:
    """Microseconds of CPU for a unit: the median of the rounds."""
    rounds, budget = (1, 0) if setting.quick else (9, _BUDGET)
    return [
        Figure(
            f"flood: {row.name}",
            "µs / unit",
            ours=statistics.median(_us_per_unit(row, budget) for _ in range(rounds)),
            goal=Goal(_MOST_US, of="ours"),
        )
        for row in ROWS
        if row.units
    ] + [_reconnecting(_QUICK_S if setting.quick else _ATTACK_S)]


def _us_per_unit(row: Row, budget: int) -> float:
    """Of as many steps as ``budget`` units allow, and of one at least.

    Only what the core does with the bytes counts, not what it takes to make them.
    """
    attack = Attack()
    row.setup(attack)
    spent_s = 0.0
    receive = attack.core.receive

    def timed(piece: bytes, now: float) -> object:
        nonlocal spent_s
        begun = time.thread_time()
        events = receive(piece, now)
        spent_s += time.thread_time() - begun
        return events

    attack.core.receive = timed  # type: ignore[method-assign, assignment]
    steps = max((budget - row.before) // row.units, 1)
    for _ in range(row.free + steps):
        row.step(attack)
    return spent_s * 1e6 / (steps * row.units)


def _reconnecting(seconds: float) -> Figure:
    """Attack one server after the other, equally long."""
    shares = []
    for flood_connections in ("10", "1000000000"):
        with _echo_server(flood_connections) as (process, port):
            _attack(port, 0.2)  # what is done once, such as imports
            before, began_at = cpu_s(process.pid), time.monotonic()
            _attack(port, seconds)
            spent_s = max(cpu_s(process.pid) - before, 0.01)  # the kernel's resolution
            shares.append(100 * spent_s / (time.monotonic() - began_at))
    ours, theirs = shares
    return Figure(
        "flood: one address that reconnects, of a core", "%", ours, theirs, ours / theirs, goal=Goal(_MOST_SHARE)
    )


def _attack(port: int, seconds: float) -> None:
    """Flood from an address of its own, and come back whenever the connection ends."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2, ("127.0.0.2", 0)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)  # no port is left in TIME_WAIT
            client.sendall(_FLOOD)
            while client.recv(1 << 16):
                pass


@contextmanager
def _echo_server(flood_connections: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    arguments = [sys.executable, "-m", "tests.bench.rpc.echo", "ours", flood_connections]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process, int(process.stdout.readline().rpartition(":")[2])
        process.stdin.close()
