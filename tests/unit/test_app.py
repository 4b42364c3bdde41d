"""The rules of the real tree, whose nodes do nothing here, on a clock that jumps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from avion_media import app
from avion_media.common.telemetry import instruments
from avion_media.config import Config, load
from avion_media.nodes import events
from avion_media.process.runtime import Runtime
from avion_media.process.tree import Tree
from avion_media.service import MARGIN_S, _log_transition, drain_budget
from avion_media.workers import consumer
from supervisors import Child, Event, EventKind, TooManyRestarts, Worker, open_tree
from trio_telemetry import Instrument, Telemetry

CONSUMER = ("renewer", "reader", "janitor")
# In the order of their start.
LEAVES = [
    "telemetry",
    "admin",
    *(f"foundation/{name}" for name in ("redis", "store", "audit", "deletions", "sandbox")),
    "service/moderation",
    *(f"service/{queue}/{name}" for queue in ("processing", "cache", "delete") for name in CONSUMER),
    *(f"service/events/{name}" for name in ("channel", "stream")),
    *(f"service/{name}" for name in ("sweeper", "origin", "grpc")),
    "readiness",
]
CLOSES_S = 0.2  # what the nodes may take to close what they own
HOUR_S = 3600.0


class Bodies:
    """Replaces the bodies of all nodes. ``defects`` are the paths of nodes that crash soon after each start."""

    def __init__(self) -> None:
        self.defects: set[str] = set()
        self.closes_s = CLOSES_S
        self.closed: list[str] = []

    def worker(self, name: str, _run: Callable[[Child[Any]], Awaitable[None]], **settings: Any) -> Worker[Any]:
        """Return the node with another body."""
        return Worker(name, self._body, **settings)

    async def _body(self, child: Child[Any]) -> None:
        child.started()
        if child.path in self.defects:
            await trio.sleep(0.2)  # so that the whole tree starts
            raise RuntimeError("a defect")
        await child.stopping.wait()
        await trio.sleep(self.closes_s)
        self.closed.append(child.path)


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Bodies:
    """Those of the trees that the test builds."""
    bodies = Bodies()
    for module in (app, consumer, events):
        monkeypatch.setattr(module, "Worker", bodies.worker)
    return bodies


def build(telemetry: Telemetry | None = None, config: Config | None = None) -> Tree:
    config = config or Config()
    return app.build_tree(Runtime(config, telemetry=telemetry or Telemetry()), config)


def pictured() -> dict[str, str]:
    """The paths of the tree in the module's docstring, and what it says about each."""
    rows: dict[str, str] = {}
    line: list[str] = []
    for row in (app.__doc__ or "").split("```")[1].splitlines()[2:]:
        found = re.fullmatch(r"((?:│  )*)[├└]─ (\w+) +(.+)", row)
        assert found is not None, row
        line = [*line[: len(found[1]) // 3], found[2]]
        rows["/".join(line)] = found[3]
    return rows


def test_the_picture_has_every_node_and_no_other(tmp_path: Path) -> None:
    """With all that is optional: webhooks, and purges. docs/architecture.md has the same picture."""
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text("[]")
    config = load(
        {
            "AVION_MEDIA_WEBHOOKS__ENDPOINTS_FILE": str(endpoints),
            "AVION_MEDIA_CDN__PURGE_URLS": "http://cdn.example",
        }
    )
    rows = pictured()
    paths = [each.path for each in build(config=config).root.snapshot().walk() if each.path != "/"]
    assert [path for path in paths if path.count("/") < 2] == list(rows)
    for path in (each for each in rows if "/" in each):
        text = rows[path].replace("same children", rows["service/processing"])
        below = {name for each in paths if each.startswith(f"{path}/") for name in each.split("/")[2:]}
        listed = {name for names in re.findall(r"\w+(?: · \w+)+", text) for name in names.split(" · ")}
        assert listed <= below <= set(re.findall(r"\w+", text)), path


async def test_nodes_stop_in_the_reverse_order_and_have_time_to_close_within_the_budget(
    bodies: Bodies, autojump_clock: MockClock
) -> None:
    started: list[str] = []
    tree = build()

    def note(event: Event) -> None:
        if event.kind is EventKind.STARTED and event.path in LEAVES:
            started.append(event.path)

    tree.root.observe(note)
    async with open_tree(tree.root):
        stops_at = trio.current_time()
    assert started == LEAVES
    assert bodies.closed == LEAVES[::-1]
    drain = Config().drain
    budget_s = drain_budget(Config(), tree.root).total_s - drain.settle - drain.grace - MARGIN_S
    assert len(LEAVES) * CLOSES_S <= trio.current_time() - stops_at < budget_s


async def test_what_needs_redis_restarts_with_it_and_nothing_else_does(
    bodies: Bodies, autojump_clock: MockClock
) -> None:
    tree = build()
    async with open_tree(tree.root):
        tree.kill("foundation/redis")
        await trio.sleep(10)
        restarted = [node.path for node in tree.root.snapshot().walk() if node.incarnation == 2]
    assert restarted == [f"foundation/{name}" for name in ("redis", "store", "audit", "deletions", "sandbox")]


@pytest.mark.parametrize(("closes_s", "ends_after_s"), [(0.0, 120.0), (CLOSES_S, 300.0)])
@pytest.mark.parametrize("path", ["service/sweeper", "service/processing/reader"])
async def test_a_node_that_keeps_crashing_ends_the_process(
    bodies: Bodies, autojump_clock: MockClock, path: str, closes_s: float, ends_after_s: float
) -> None:
    """Also if each restart takes longer, because the nodes below use their time to close. The bound grows with
    the number of nodes; a process that crashes on should end within a few minutes."""
    bodies.defects.add(path)
    bodies.closes_s = closes_s
    tree = build()
    given_up: list[tuple[str, float]] = []

    def note(event: Event) -> None:
        if event.kind is EventKind.ESCALATED:
            given_up.append((event.path, trio.current_time() - started_at))

    tree.root.observe(note)
    started_at = trio.current_time()
    with trio.fail_after(HOUR_S), pytest.raises(TooManyRestarts):
        await tree.root.run()
    assert given_up[0][0] == path.rpartition("/")[0]
    assert 25 < given_up[0][1] < 45
    assert given_up[-1][0] == "/"
    assert given_up[-1][1] < ends_after_s


class _Counting(Telemetry):
    """Keeps what is counted, by instrument and path."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Instrument, object]] = Counter()

    def count(self, instrument: Instrument, value: float = 1, **attributes: Any) -> None:
        self.counts[instrument, attributes["path"]] += int(value)


async def test_each_restart_is_counted_for_its_node(bodies: Bodies, autojump_clock: MockClock) -> None:
    """AvionMediaRestartStorm alerts on this counter."""
    telemetry = _Counting()
    tree = build(telemetry)
    tree.root.observe(partial(_log_transition, Runtime(Config(), telemetry=telemetry)))
    async with open_tree(tree.root):
        for _ in range(2):
            tree.kill("service/sweeper")
            await trio.sleep(10)
    assert telemetry.counts == {
        (instruments.RESTARTS, "service/sweeper"): 2,
    }
