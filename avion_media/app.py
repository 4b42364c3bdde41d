"""The supervision tree of the service, as one specification: read this file first.

```
avion-media                rest_for_one: what stands below a failed child is rebuilt with it; stops from below
├─ telemetry               last to stop, bounded flush
├─ admin                   up first, answers through the whole drain
├─ foundation              rest_for_one
│  ├─ redis                the connections, the queues' and the status board's
│  ├─ store                S3 behind bounded threads
│  └─ workshop             the cage: confined decoders and ffmpeg
├─ service                 one_for_one: none of these takes another down
│  ├─ processing           one_for_one: keeper · reader · reclaimer · promoter
│  ├─ cache                same shape
│  ├─ delete               same shape
│  ├─ events               drop_deleted: channel and stream; the fan-out of status events
│  ├─ sweeper              the reconciliation, on one replica at a time
│  ├─ origin               HTTP for the CDN
│  └─ grpc                 stops first
└─ readiness               flips /readyz and gRPC health
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio

from avion_media.nodes import consumers, foundation, ports, readiness, rpc
from avion_media.nodes.events import events
from avion_media.nodes.sweeper import sweeper
from avion_media.runtime import Runtime
from supervisors import Child, ChildSpec, Intensity, Strategy, Supervisor

Body = Callable[[Runtime, Child], Awaitable[None]]
Node = ChildSpec | Supervisor


def build_tree(runtime: Runtime, before: Iterable[Node] = ()) -> Supervisor:
    """The tree for the runtime's roles. ``before`` (as in `dev`) stands left of everything."""

    def worker(name: str, body: Body, *, shutdown_s: float = 5.0, start_timeout_s: float = 30.0) -> ChildSpec:
        return ChildSpec(name=name, run=partial(body, runtime), shutdown_s=shutdown_s, start_timeout_s=start_timeout_s)

    by_role: dict[str, Callable[[], Node]] = {
        "processing": lambda: consumers.processing(runtime),
        "cache": lambda: consumers.cache(runtime),
        "delete": lambda: consumers.delete(runtime),
        "events": lambda: events(runtime),
        "sweeper": lambda: worker("sweeper", sweeper),
        "http": lambda: worker("origin", ports.origin, shutdown_s=1.0),
        "grpc": lambda: worker("grpc", rpc.grpc, shutdown_s=1.0),
    }
    foundation_nodes = [
        worker("redis", foundation.redis),
        worker("store", foundation.store),
        worker("workshop", foundation.workshop),
    ]
    root = Supervisor(
        "avion-media",
        [
            *before,
            worker("telemetry", foundation.telemetry),
            worker("admin", ports.admin, shutdown_s=1.0),
            Supervisor("foundation", foundation_nodes, strategy=Strategy.REST_FOR_ONE, intensity=Intensity(10, 60.0)),
            Supervisor(
                "service",
                [make() for role, make in by_role.items() if role in runtime.roles],
                strategy=Strategy.ONE_FOR_ONE,
                intensity=Intensity(20, 60.0),
            ),
            worker("readiness", readiness.readiness, shutdown_s=1.0),
        ],
        strategy=Strategy.REST_FOR_ONE,
        intensity=Intensity(5, 60.0),
    )
    runtime.tree = lambda: _with_uptime(root.snapshot().to_dict(), trio.current_time())
    return root


def _with_uptime(node: dict[str, Any], now: float) -> dict[str, Any]:
    """Trio's clock means nothing outside: ``since`` becomes ``uptime_s``, the seconds in the present state."""
    since = node.pop("since")
    node["uptime_s"] = None if since is None else round(now - since, 3)
    for child in node["children"]:
        _with_uptime(child, now)
    return node
