"""Every leaf of the real tree returns, hangs, or raises a cancellation, in this process: its group restarts."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

import grpc
import pytest
import redis
import trio

from avion_media import app
from avion_media.common.settings import Bind
from avion_media.config import Config, load
from avion_media.nodes import events
from avion_media.process.runtime import Runtime
from avion_media.process.tree import Tree
from avion_media.workers import consumer
from supervisors import Child, Event, Supervisor, Worker, open_tree
from tests.chaos.groups import PURGE_URL, all_paths, changed, group_of, incarnations, nodes
from tests.chaos.load import Caller
from tests.conftest import S3Bucket

_HANG_S = 0.3  # the start timeout of a node that will hang
# A pool has no body that could fail; test_every_node kills it.
LEAVES = [
    path
    for path in all_paths()
    if not path.endswith("/attempts") and not any(each.startswith(f"{path}/") for each in all_paths())
]
# Those of the service are independent, so they can fail at the same time.
TOGETHER = [path for path in LEAVES if path.startswith("service/")]
ROUNDS = [*([path] for path in LEAVES if path not in TOGETHER), TOGETHER]
_RECOVERY_S = 120.0  # because the machine may be busy


@dataclass
class Faults:
    """The faults to inject. The bodies of the tree check for them."""

    triggers: dict[str, trio.Event] = field(default_factory=dict)
    how: str = "return"
    to_hang: dict[str, Any] = field(default_factory=dict)  # by path, for the next start: the normal settings
    nodes: dict[str, Worker[Any]] = field(default_factory=dict)  # by path

    async def body(self, run: Callable[[Child[Any]], Awaitable[None]], child: Child[Any]) -> None:
        """The real body of a child, until its fault is triggered."""
        if child.path in self.to_hang:
            self.nodes[child.path]._record.policy = self.to_hang.pop(child.path)
            await trio.sleep_forever()  # never ready: its start times out
        trigger = self.triggers[child.path] = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._real, run, child, nursery.cancel_scope)
            await trigger.wait()
            nursery.cancel_scope.cancel()
        if trigger.is_set() and self.how == "cancelled":
            raise await a_cancellation()

    async def _real(
        self, run: Callable[[Child[Any]], Awaitable[None]], child: Child[Any], scope: trio.CancelScope
    ) -> None:
        await run(child)
        scope.cancel()

    def strike(self, path: str, how: str) -> None:
        """Let one child fail. For a hang, it returns, and its next start hangs."""
        self.how = how
        if how == "hang":
            record = self.nodes[path]._record
            self.to_hang[path] = record.policy
            record.policy = replace(record.policy, start_timeout_s=_HANG_S)
        self.triggers[path].set()

    def worker(self, name: str, run: Callable[[Child[Any]], Awaitable[None]], **settings: Any) -> Worker[Any]:
        """A replacement of `Worker`: the same child, but it can be made to fail."""
        return Worker(name, partial(self.body, run), **settings)


async def a_cancellation() -> trio.Cancelled:
    """Return a `trio.Cancelled` that a bug let out of its scope."""
    caught: list[trio.Cancelled] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            caught.append(error)
            raise
    return caught[0]


@pytest.fixture
def config(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Config:
    """A configuration with free ports, only for this test."""
    free = Bind(host="127.0.0.1", port=0)
    plain = load({})
    return plain.model_copy(
        update={
            "grpc": plain.grpc.model_copy(update={"bind": free}),
            "http": plain.http.model_copy(update={"bind": free}),
            "admin": plain.admin.model_copy(update={"bind": free}),
            "cdn": plain.cdn.model_copy(update={"purge_urls": (PURGE_URL,)}),
            "tasks": plain.tasks.model_copy(update={"claim_after": 2.0}),
            "redis": plain.redis.model_copy(update={"url": redis_of_process}),
            "s3": bucket.config(),
        }
    )


@asynccontextmanager
async def faulty_tree(config: Config, faults: Faults, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Tree, Runtime]]:
    """Run the tree of the service, in which every leaf can be made to fail."""
    for module in (app, consumer, events):
        patch.setattr(module, "Worker", faults.worker)
    runtime = Runtime(config)
    tree = app.build_tree(runtime, config)
    faults.nodes = {path: cast("Worker[Any]", tree.root.find(path)) for path in LEAVES}
    async with open_tree(tree.root):
        yield tree, runtime


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["cancelled", "hang"])
async def test_a_fault_restarts_its_group_only(
    config: Config, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis, picture: bytes, how: str
) -> None:
    """Uploads in progress during the fault succeed; their client repeats calls that are UNAVAILABLE."""
    faults = Faults()
    recovery_s: list[float] = []
    async with faulty_tree(config, faults, monkeypatch) as (tree, runtime), calling(tree) as caller:
        root = tree.root
        for paths in ROUNDS:
            queued = await trio.to_thread.run_sync(caller.upload, picture)
            before = incarnations(asdict(root.snapshot()))
            told: list[bool] = []
            forget = runtime.readiness.on_change(partial(note_readiness, runtime, told))
            began = trio.current_time()
            with trio.fail_after(_RECOVERY_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, upload_until_ready, caller, picture, queued)
                    changes = watch(root)
                    for path in paths:
                        faults.strike(path, how)
                    while not (
                        recovered(root, paths, before) and runtime.readiness.ready
                    ):  # which is told a moment later
                        await changes.wait()
                        changes = watch(root)
                    recovery_s.append(trio.current_time() - began)
            forget()
            after = incarnations(asdict(root.snapshot()))
            assert changed(before, after) == {each for path in paths for each in group_of(path)}, paths
            starts = 2 if how == "hang" else 1  # the one that hung, and the one after it
            assert all(after[path] >= before[path] + starts for path in paths), paths
            assert False in told, f"{paths}: readiness did not flip"
            assert set(caller.codes) <= {"OK", "UNAVAILABLE"}, caller.problems
    print(f"\n{how}: recovery median {statistics.median(recovery_s):.2f} s, worst {max(recovery_s):.2f} s")
    assert not redis_client.exists("{media_processing_queue}:dlq")
    assert redis_client.xlen("media_processing_queue") == redis_client.zcard("{media_processing_queue}:delayed") == 0


@asynccontextmanager
async def calling(tree: Tree) -> AsyncIterator[Caller]:
    """Open a client of the tree's gRPC port, for threads."""
    host, port = tree.ports["grpc"].value
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        yield Caller(channel, retries=True)


def upload_until_ready(caller: Caller, picture: bytes, queued: str) -> None:
    """Upload one more file, and wait until both are READY."""
    caller.wait_ready([queued, caller.upload(picture)])


def note_readiness(runtime: Runtime, told: list[bool], _serving: bool) -> None:
    """A listener that records what ``/readyz`` would have returned."""
    told.append(runtime.readiness.ready)


def watch(root: Supervisor) -> trio.Event:
    """Return an event that is set at the next transition in the tree."""
    happened = trio.Event()

    def seen(_event: Event) -> None:
        happened.set()
        forget()

    forget = root.observe(seen)
    return happened


def recovered(root: Supervisor, paths: list[str], before: dict[str, int]) -> bool:
    """Return whether all of ``paths`` have restarted, and everything runs."""
    tree = asdict(root.snapshot())
    now = incarnations(tree)
    return all(now[path] > before[path] for path in paths) and all(node["state"] == "running" for node in nodes(tree))
