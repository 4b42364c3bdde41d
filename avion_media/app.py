"""The supervision tree of the service, as one specification: read this file first.

```
avion-media                rest_for_one: when a child fails, the children listed after it restart too; stops bottom-up
├─ telemetry               stops last, with a bounded flush
├─ admin                   answers while the rest starts, and during the whole drain
├─ foundation              rest_for_one
│  ├─ redis                connections, queues, status store
│  ├─ store                S3 client; a limited number of calls at once
│  ├─ audit                the audit log
│  ├─ deletions            replays the journal of deletions if Redis might have lost some
│  └─ sandbox              isolated processes for decoders (roles processing and cache)
├─ service                 one_for_one: children fail independently
│  ├─ moderation           block lists, and blocks that a crash left unfinished
│  ├─ processing           one_for_one: renewer · attempts · reader · janitor
│  ├─ cache                same children
│  ├─ delete               same children; with a CDN configured, also purge (same children)
│  ├─ events               deletion events: channel · stream
│  ├─ webhooks             same children, and: events · endpoints; only with a file of endpoints
│  ├─ sweeper              repairs store and Redis; one replica leads
│  ├─ origin               HTTP for the CDN
│  └─ grpc                 gRPC port, fan-out of status changes to watchers; stops first
└─ readiness               switches /readyz and gRPC health
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from avion_media.config import Config
from avion_media.nodes import branch, consumers, foundation, group, ports
from avion_media.nodes.events import events
from avion_media.nodes.moderation import MODERATED, moderation
from avion_media.nodes.sweeper import sweeper
from avion_media.nodes.webhooks import webhooks
from avion_media.process.runtime import DECODING_ROLES, Runtime
from avion_media.process.tree import Tree
from supervisors import Child, Node, Strategy, Worker
from trio_telemetry import bind_path

T = TypeVar("T")


def build_tree(runtime: Runtime, config: Config, before: Iterable[Node[Any]] = ()) -> Tree:
    """The tree for the runtime's roles. ``before`` (as in `dev`) is on the left of everything."""

    def worker(name: str, body: Callable[[Runtime, Child[T]], Awaitable[None]], grace_s: float = 1.0) -> Worker[T]:
        async def run(child: Child[T]) -> None:
            bind_path(child.path)
            await body(runtime, child)

        return Worker(name, run, grace_s=grace_s)

    def whole() -> Tree:
        """The admin port shows the tree that it is a part of; it exists by the time the node runs."""
        return tree

    admin_port = worker("admin", partial(ports.admin, config=config, tree=whole))
    origin = worker("origin", partial(ports.origin, config=config))
    grpc = worker("grpc", partial(ports.grpc, config=config))
    redis, store = worker("redis", foundation.redis), worker("store", foundation.store)
    by_role: dict[str, Callable[[], Node[Any]]] = {
        "processing": lambda: consumers.processing(runtime),
        "cache": lambda: consumers.cache(runtime, config),
        "delete": lambda: consumers.delete(runtime),
        "events": lambda: events(runtime),
        "webhooks": lambda: webhooks(runtime, config),
        "sweeper": lambda: worker("sweeper", partial(sweeper, config=config), grace_s=2.0),
        "http": lambda: origin,
        "grpc": lambda: grpc,
    }
    audit = worker("audit", foundation.audit, grace_s=foundation.AUDIT_STOP_S + 0.2)
    others = [audit, worker("deletions", foundation.deletions)]
    if runtime.roles & DECODING_ROLES:
        others.append(worker("sandbox", foundation.sandbox))
    below = group("foundation", [redis, store, *others], strategy=Strategy.REST_FOR_ONE)
    roles = runtime.roles if config.webhooks.endpoints_file else runtime.roles - {"webhooks"}
    moderated = [worker("moderation", moderation)] if runtime.roles & MODERATED else []
    service = branch("service", [*moderated, *(make() for role, make in by_role.items() if role in roles)])
    telemetry = worker("telemetry", foundation.telemetry, grace_s=foundation.TELEMETRY_STOP_S)
    last = worker("readiness", foundation.readiness)
    root = branch("avion-media", [*before, telemetry, admin_port, below, service, last], strategy=Strategy.REST_FOR_ONE)
    tree: Tree = Tree(root, {"admin": admin_port, "http": origin, "grpc": grpc}, (below, redis, store, service))
    root.observe(lambda _event: runtime.readiness.set_down(tree.down(), calls_can_run=tree.calls_can_run()))
    return tree
