"""100 000 calls by h2load, however long that takes: no failure, and no memory that grows with them. Fewer when the time
is short.
"""

from __future__ import annotations

import re
import subprocess
import tempfile

from tests.fuzz.live.attack import Program, program
from tests.fuzz.session import Finding, Session, Target
from tests.services.process import require

ALL_CALLS = 100_000
FEW_CALLS = 10_000
_CONNECTIONS, _STREAMS = 10, 50
_MAX_GROWTH_BYTES = 8 << 20
_EMPTY_MESSAGE = bytes(5)
_RESULT = re.compile(
    r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
)


def _call(port: int, calls: int) -> str:
    """So many calls of Health.Check; what h2load says about them."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(_EMPTY_MESSAGE)
        body.flush()
        command = [require("h2load", "nghttp2-client"), "-n", str(calls), "-c", str(_CONNECTIONS), "-m", str(_STREAMS)]
        command += ["-H", "te: trailers", "-H", "content-type: application/grpc", "-d", body.name]
        command.append(f"http://127.0.0.1:{port}/grpc.health.v1.Health/Check")
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout


def _check(server: Program, calls: int, told: str) -> None:
    result = _RESULT.search(told)
    if result is None or [*map(int, result.groups())] != [calls] * 4 + [0] * 3:
        raise Finding(f"h2load: {result and result[0]}")
    # h2load does not look at grpc-status: the server says how the calls ended.
    seen = server.ask()
    if seen["defects"] or seen["codes"].get("OK", 0) < calls or len(seen["codes"]) != 1:
        raise Finding(f"h2load: {seen}")


def _run(session: Session) -> None:
    calls = ALL_CALLS if session.is_long else FEW_CALLS
    with program("server", "grpc") as server:
        port = int(server.line())
        _check(server, FEW_CALLS, _call(port, FEW_CALLS))
        warm_bytes = server.memory_bytes
        told = _call(port, calls)
        growth = server.memory_bytes - warm_bytes
        _check(server, calls, told)
    session.inputs = FEW_CALLS + calls
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", told)
    session.figures |= {"calls/s": rate[1] if rate else "?", "memory": f"{growth / (1 << 20):+.1f} MiB"}
    if growth > _MAX_GROWTH_BYTES:
        raise Finding(f"h2load: the server grew by {growth >> 10} KiB in {calls} calls")


TARGET = Target("h2load", _run)
