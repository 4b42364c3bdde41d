"""What one of each flow costs Redis and the object store, through the real service: ``python -m tests.scale.flows``.

With ``--write``, the figures go to ``flows.json`` beside this file, from which ``tests.scale.model`` computes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import redis as redis_py
import trio

from avion_media.common.tasks import DROP_DELETED
from avion_media.common.wire.avion import media_pb2 as wire
from tests.bench.setting import Setting, open_setting
from tests.scale.costs import server_cpu_s
from tests.scale.dispatch import _FLEET as FLEET
from tests.scale.dispatch import cost_of_turns, share_of_polling
from tests.service.harness import Service, eventually, running_program
from tests.service.published import unfinished
from tests.service.remote_server import remote_server
from tests.services import ServiceFailed

Client: TypeAlias = Any  # redis-py's types cover options that no measurement here uses

FIGURES = Path(__file__).parent / "flows.json"
ITEMS = 200
BACKLOG, TASKS = (20_000, 2000), 2000
PICTURE = Path(__file__).parents[1] / "data" / "jpeg-orientation-1.jpg"
_AT_ONCE = 4
_IDLE_S = 10.0
_USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Flow:
    """What one of it costs.

    ``redis_us``: CPU time of Redis in µs. ``redis_byte_s``: bytes of the keys that it leaves in Redis times the seconds
    that they live; at a steady rate, this times the rate is the memory. ``store``: calls of the store by operation.
    """

    redis_us: float
    redis_byte_s: float
    store: dict[str, float]


@dataclass(frozen=True, slots=True)
class Flows:
    """All flows by name, and the share of a core of Redis that one idle replica takes.

    ``task`` is the part of the others that a queue has: queued, taken and completed beside 20,000 waiting ones.
    """

    flows: dict[str, Flow]
    idle_replica: float


class _Meter:
    """Reads what was used since it was made."""

    def __init__(self, service: Service, client: Client, idle: float) -> None:
        self._service, self._client, self._idle = service, client, idle
        self._byte_s = _byte_seconds(client)
        self._began = time.monotonic()
        self._cpu_s, self._calls = self._read()

    def flow(self, count: int) -> Flow:
        """Return the costs of one of ``count``."""
        cpu_s, calls = self._read()
        cpu_s -= self._cpu_s + self._idle * (time.monotonic() - self._began)
        more = {name: (number - self._calls[name]) / count for name, number in calls.items()}
        by_call = {name: round(number, 2) for name, number in sorted(more.items()) if number >= 0.05}
        byte_s = max(0.0, _byte_seconds(self._client) - self._byte_s) / count
        return Flow(round(cpu_s / count * 1e6), round(byte_s, -3), by_call)

    def _read(self) -> tuple[float, Counter[str]]:
        calls = self._service.store_calls()
        return server_cpu_s(self._client), calls


def _byte_seconds(client: Client) -> float:
    """Return the bytes of each key that expires, times the seconds that it has left."""
    found = 0.0
    for key in client.scan_iter(count=1000):
        left_ms = client.pttl(key)
        if left_ms > 0:
            found += client.memory_usage(key, samples=0) * left_ms / 1000
    return found


def measure(setting: Setting, items: int) -> dict[str, Flow]:
    """Return the costs of an upload, a copy of a remote file, a request at the origin, and a deletion."""
    body = PICTURE.read_bytes()
    with ExitStack() as stack:
        remote = stack.enter_context(remote_server({f"/{number}.jpg": body for number in range(items + 1)}))
        settings = {"DELETE__DELAY": "0", "REMOTE__ALLOW_NETWORKS": "127.0.0.1/32"}
        service = stack.enter_context(running_program(setting.service_environment(**settings)))
        client: Client = stack.enter_context(redis_py.Redis.from_url(setting.redis_url))
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE))
        uploaded: list[str] = []

        def upload(number: int) -> None:
            granted = service.request_upload("photo.jpg", "image/jpeg", len(body), owner=f"owner-{number % 20}")
            assert service.put(granted, body).status_code == 200
            service.complete(granted.media_id)
            assert service.watch(granted.media_id)[-1].state == wire.MediaStatus.READY
            uploaded.append(granted.media_id)

        def copy(number: int) -> None:
            service.cache(f"{remote.url}/{number}.jpg")

        def visit(number: int) -> None:
            assert service.get(f"/thumbnail/small/{uploaded[number]}").status_code == 200

        def delete(number: int) -> None:
            client.xadd(DROP_DELETED, {"event": json.dumps({"media_ids": [uploaded[number]]})})

        def quiet() -> None:
            eventually(lambda: not unfinished(client), "the queues to be empty")

        steps: Sequence[tuple[str, Callable[[int], None]]] = (
            ("upload", upload), ("copy", copy), ("visit", visit), ("deletion", delete),
        )  # fmt: skip
        for _, step in steps:
            step(0)  # afterwards the server knows the scripts
        quiet()
        idle_from, began = server_cpu_s(client), time.monotonic()
        time.sleep(_IDLE_S)
        idle = (server_cpu_s(client) - idle_from) / (time.monotonic() - began)
        flows = {}
        for name, step in steps:
            meter = _Meter(service, client, idle)
            list(pool.map(step, _numbers(items)))
            quiet()
            flows[name] = meter.flow(items)
        return flows


def _numbers(items: int) -> Iterator[int]:
    return iter(range(1, items + 1))


def read(path: Path = FIGURES) -> Flows:
    """Return the committed figures."""
    document = json.loads(path.read_text())
    return Flows({name: Flow(**each) for name, each in document["flows"].items()}, document["idle_replica"])


def main() -> int:
    """Print the figures. They are not judged."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.flows", description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--write", action="store_true", help=f"replace {FIGURES.name}")
    arguments = parser.parse_args()
    try:
        with open_setting(quick=False) as setting:
            flows = measure(setting, arguments.items)
            with redis_py.Redis.from_url(setting.redis_url) as client:
                task_us = trio.run(cost_of_turns, setting.redis_url, client, *BACKLOG, TASKS)
                flows["task"] = Flow(round(task_us), 0.0, {})
                idle = share_of_polling(setting.redis_url, client) / FLEET
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for name, each in flows.items():
        calls = ", ".join(f"{count:g} {call}" for call, count in each.store.items())
        print(f"{name:<10}{each.redis_us:>8.0f} µs of Redis{each.redis_byte_s / 1e6:>10.3f} MB·s   store: {calls}")
    print(f"an idle replica: {idle:.6f} of a core of Redis")
    if arguments.write:
        document = asdict(Flows(flows, round(idle, 7)))
        FIGURES.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
