"""Run as a program, with ``grpc`` or ``http`` and a port: a good client that calls again and again.

For each line on standard input it prints one JSON object about the calls since the line before.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PAUSE_S = 0.005
_TIMEOUT_S = 10.0


def _grpc_calls(port: int) -> Callable[[], None]:
    health = health_pb2_grpc.HealthStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

    def call() -> None:
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

    return call


def _http_calls(port: int) -> Callable[[], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)

    def call() -> None:
        connection.request("GET", "/media/" + "0" * 64)
        response = connection.getresponse()
        assert response.status == 200
        assert len(response.read()) == 65_536

    return call


def main() -> None:
    """Call until standard input ends."""
    call = {"grpc": _grpc_calls, "http": _http_calls}[sys.argv[1]](int(sys.argv[2]))
    took_s: list[float] = []
    failures: list[str] = []

    def call_on() -> None:
        while True:
            begun = time.perf_counter()
            try:
                call()
                took_s.append(time.perf_counter() - begun)
            except Exception as error:  # noqa: BLE001 - each is reported
                failures.append(repr(error)[:500])
            time.sleep(_PAUSE_S)

    threading.Thread(target=call_on, daemon=True).start()
    for _ in sys.stdin:
        calls, took_s[:] = took_s[:], []
        print(json.dumps({"took_ms": [round(1000 * each, 3) for each in calls], "failures": failures[:5]}), flush=True)


if __name__ == "__main__":
    main()
