"""Redis is away and the store answers 503 for hours, on a clock that jumps: the real nodes, and real connections.

``AVION_OUTAGE_HOURS`` says for how many: the default is short, because an hour takes eight seconds.
"""

from __future__ import annotations

import gc
import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import MockClock

from avion_media.app import build_tree
from avion_media.backends.settings import RedisConfig, S3Config
from avion_media.config import Config
from avion_media.nodes import foundation, ports
from avion_media.process.runtime import Runtime
from supervisors import Child, Event, EventKind, open_tree
from trio_telemetry import configure_logging

T = TypeVar("T")
HOUR_S = 3600.0
HOURS = float(os.environ.get("AVION_OUTAGE_HOURS", "0.15"))
ROLES = frozenset({"processing", "events", "sweeper"})


async def in_this_thread(function: Callable[..., T], *arguments: Any, **_options: Any) -> T:
    """Replace a thread, whose work takes no time of a clock that jumps."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


async def idle(_runtime: Runtime, child: Child[Any], **_settings: Any) -> None:
    """A node that does nothing."""
    child.started(("127.0.0.1", 0))
    await child.stopping.wait()


@dataclass
class Store:
    """Answers 503, and counts."""

    requests: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        async for data in stream:
            self.requests += data.count(b"\r\n\r\n")
            await stream.send_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_long_outage_uses_up_no_restarts_and_nothing_grows(
    autojump_clock: MockClock, closed_port: int, aws_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = aws_environment
    patch.setenv("AWS_ACCESS_KEY_ID", "key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setattr(trio.to_thread, "run_sync", in_this_thread)
    patch.setattr(foundation, "sandbox", idle)
    patch.setattr(ports, "admin", idle)
    patch.setattr("trio_telemetry.process._LAG_EVERY_S", 60.0)
    store, events = Store(), Counter[EventKind]()

    def note(event: Event) -> None:
        events[event.kind] += 1

    patch.setattr("trio_telemetry.logs.time.monotonic", trio.current_time)
    configure_logging("json", "info")
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, store.serve, [listener])
        config = Config(
            redis=RedisConfig(url=f"redis://127.0.0.1:{closed_port}/0"),
            s3=S3Config(endpoint_url=f"http://127.0.0.1:{listener.socket.getsockname()[1]}"),
        )
        tree = build_tree(Runtime(config, ROLES), config)
        async with open_tree(tree.root):
            tree.root.observe(note)
            sizes = []
            for _ in range(2):
                await trio.sleep(HOURS / 2 * HOUR_S)
                gc.collect()
                sizes.append((trio.lowlevel.current_statistics().tasks_living, len(gc.get_objects())))
            assert not events  # no node failed, so no restart was counted
            assert store.requests < 3 * HOURS * HOUR_S
        nursery.cancel_scope.cancel()
    (tasks, objects), (tasks_later, objects_later) = sizes
    assert tasks_later <= tasks + 2
    assert objects_later < objects + 5000
    lines = Counter(json.loads(line)["event"] for line in capsys.readouterr().err.splitlines())
    assert lines.total() < 3 * 60 * HOURS
