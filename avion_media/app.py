"""The supervision tree of the service, as one specification: read this file first.

```
avion-media                rest_for_one: what stands below a failed child is rebuilt with it; stops from below
├─ telemetry               last to stop, bounded flush
├─ admin                   up first, answers through the whole drain
├─ foundation              rest_for_one
│  ├─ redis                the connections, the queues' and the status board's
│  ├─ store                S3 behind bounded threads
│  └─ sandbox              isolated processes for decoders and ffmpeg
├─ service                 one_for_one: none of these takes another down
│  ├─ processing           one_for_one: keeper · reader · reclaimer · promoter
│  ├─ cache                same shape
│  ├─ delete               same shape; beside its children, where there is a CDN to tell, purge (same shape)
│  ├─ events               drop_deleted: channel and stream
│  ├─ sweeper              the reconciliation, on one replica at a time
│  ├─ origin               HTTP for the CDN
│  └─ grpc                 the port, and the fan-out of status events to watchers; stops first
└─ readiness               flips /readyz and gRPC health
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio

from avion_media.nodes import INTENSITY, RESTARTS, consumers, foundation, ports, readiness, rpc
from avion_media.nodes.admin import admin
from avion_media.nodes.events import events
from avion_media.nodes.sweeper import sweeper
from avion_media.runtime import Runtime
from avion_media.telemetry import bind_path
from supervisors import Child, ChildSpec, NodeState, NotRunning, State, Strategy, Supervisor

Body = Callable[[Runtime, Child], Awaitable[None]]
Node = ChildSpec | Supervisor


def build_tree(runtime: Runtime, before: Iterable[Node] = ()) -> Supervisor:
    """The tree for the runtime's roles. ``before`` (as in `dev`) stands left of everything."""

    def worker(name: str, body: Body, *, shutdown_s: float = 1.0) -> ChildSpec:
        async def run(child: Child) -> None:
            bind_path(child.path)
            await body(runtime, child)

        return ChildSpec(name=name, run=run, shutdown_s=shutdown_s, backoff=RESTARTS)

    by_role: dict[str, Callable[[], Node]] = {
        "processing": lambda: consumers.processing(runtime),
        "cache": lambda: consumers.cache(runtime),
        "delete": lambda: consumers.delete(runtime),
        "events": lambda: events(runtime),
        "sweeper": lambda: worker("sweeper", sweeper, shutdown_s=2.0),
        "http": lambda: worker("origin", ports.origin),
        "grpc": lambda: worker("grpc", rpc.grpc),
    }
    foundation_nodes = [
        worker("redis", foundation.redis),
        worker("store", foundation.store),
        worker("sandbox", foundation.sandbox),
    ]
    root = Supervisor(
        "avion-media",
        [
            *before,
            worker("telemetry", foundation.telemetry, shutdown_s=foundation.TELEMETRY_STOP_S),
            worker("admin", admin),
            Supervisor("foundation", foundation_nodes, strategy=Strategy.REST_FOR_ONE, intensity=INTENSITY),
            Supervisor(
                "service",
                [make() for role, make in by_role.items() if role in runtime.roles],
                strategy=Strategy.ONE_FOR_ONE,
                intensity=INTENSITY,
            ),
            worker("readiness", readiness.readiness),
        ],
        strategy=Strategy.REST_FOR_ONE,
        intensity=INTENSITY,
    )
    runtime.tree = lambda: _tree(runtime, root)
    runtime.kill = partial(_kill, root)
    root.observe(lambda _event: runtime.set_down(_down(root.snapshot())))
    return root


def _kill(root: Supervisor, path: str) -> bool:
    """Crash a node; whether it was up. LookupError when there is none of that path."""
    try:
        return root.kill(path)
    except NotRunning:  # the supervisor above it is down
        return False


def _down(node: NodeState) -> frozenset[str]:
    """The paths of the nodes that do not run."""
    return frozenset(each.path for each in node.walk() if each.state is not State.RUNNING) - {node.path}


def _tree(runtime: Runtime, root: Supervisor) -> dict[str, Any]:
    """The live tree for ``/tree``, with the phase of the process and the number of its Trio tasks."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    return {
        "phase": str(runtime.lifecycle.phase),
        "tasks": tasks,
        **_with_uptime(root.snapshot().to_dict(), trio.current_time()),
    }


def _with_uptime(node: dict[str, Any], now: float) -> dict[str, Any]:
    """Trio's clock means nothing outside: ``since`` becomes ``uptime_s``, the seconds in the present state."""
    since = node.pop("since")
    node["uptime_s"] = None if since is None else round(now - since, 3)
    for child in node["children"]:
        _with_uptime(child, now)
    return node
