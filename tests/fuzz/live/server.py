"""Run as a program, with ``grpc`` or ``http``: a server on a free port, for attackers. Prints the port.

For each line on standard input it prints one JSON object: what it holds, the defects that it was told of, and the
longest turn since the line before.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio

from avion_media.common.formats import JPEG
from avion_media.common.media import MediaFacts
from avion_media.servers.origin.app import Origin
from avion_media.servers.settings import HttpConfig
from avion_media.service import freeze_long_lived_objects
from tests.interop.echo import Echo
from tests.unit.servers.origin.objects import Blocks, Deletions, Objects, Slot, Tokens
from trio_grpc import CallContext, GrpcLimits, GrpcServer, HealthService, Hooks
from trio_http1 import HttpLimits, HttpServer
from trio_telemetry import NO_TELEMETRY

SERVED_ID = "0" * 64
BODY = bytes(range(256)) * 256
Look = dict[str, dict[str, int]]
# Short, so that what is left open is seen to end within a run.
GRPC_LIMITS = GrpcLimits(header_timeout_s=2.0, request_timeout_s=2.0, write_timeout_s=2.0, idle_timeout_s=5.0)
HTTP_LIMITS = HttpLimits(head_timeout_s=2.0, body_timeout_s=2.0, keep_alive_s=5.0, write_timeout_s=2.0)


async def _serve_grpc(
    defects: list[str], listeners: list[trio.SocketListener], nursery: trio.Nursery
) -> Callable[[], Look]:
    health = HealthService()
    health.set_serving()
    codes: Counter[str] = Counter()

    @contextmanager
    def counted(call: CallContext) -> Iterator[None]:
        yield
        codes[call.code.name] += 1

    def note(_id: str, method: str, error: Exception) -> None:
        if "secret" not in str(error):  # the Echo service fails when it is asked to; anything else is a defect
            defects.append(f"{method}: {error!r}")

    server = GrpcServer(
        [Echo().service],
        limits=GRPC_LIMITS,
        health=health,
        hooks=Hooks(observe=counted, on_error=note),
    )
    nursery.start_soon(server.serve, listeners)

    def look() -> Look:
        held = {"connections": server.connections, "streams": server.streams, "calls": server.calls}
        return {"held": held, "codes": dict(codes)}

    return look


async def _serve_http(
    defects: list[str], listeners: list[trio.SocketListener], nursery: trio.Nursery
) -> Callable[[], Look]:
    def note(_logger: object, _method: str, event: Any) -> Any:
        defects.append(str(event))
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    objects = Objects()
    objects.metadata = MediaFacts(JPEG, len(BODY), 4, 4, "hash", "", animated=False).to_metadata()
    for key in (f"cached_remote/{SERVED_ID}", f"thumbnail/small/remote/{SERVED_ID}.jpg"):
        objects.held[key] = BODY
    origin = Origin(Slot(objects), Deletions(), Blocks(), NO_TELEMETRY, HttpConfig(), dict, Tokens())
    server = HttpServer(origin.handle, HTTP_LIMITS)
    nursery.start_soon(server.serve, listeners)
    return lambda: {"held": {"connections": server.connections, "requests": server.requests}}


class _Turns(trio.abc.Instrument):
    """The longest turn of any task, in CPU time: so long everybody else waits, however busy the machine is."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.slowest = ""
        self._begun = time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took_s = time.thread_time() - self._begun
        if took_s > self.longest_s:
            self.longest_s, self.slowest = took_s, task.name


async def _main(kind: str) -> None:
    defects: list[str] = []
    turns = _Turns()
    trio.lowlevel.add_instrument(turns)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        serve = {"grpc": _serve_grpc, "http": _serve_http}[kind]
        look = await serve(defects, listeners, nursery)
        freeze_long_lived_objects()  # as the service does
        print(listeners[0].socket.getsockname()[1], flush=True)
        async with trio.lowlevel.FdStream(0) as asked:
            while await asked.receive_some(1024):
                told = {"defects": defects, "longest_turn_ms": 1000 * turns.longest_s, "slowest": turns.slowest}
                turns.longest_s = 0.0
                print(json.dumps({**look(), **told}), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    trio.run(_main, sys.argv[1])
