from __future__ import annotations

import dataclasses
import json
import threading

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Backoff,
    Child,
    DynamicSupervisor,
    Event,
    Intensity,
    NodeState,
    NotRunning,
    Restart,
    State,
    Supervisor,
    TooManyRestarts,
    Worker,
    open_tree,
)

from .probes import NO_BACKOFF, SELDOM, Stage, observed, run_expecting, settled, terminate


async def test_the_task_of_a_child_is_named_after_its_path() -> None:
    names: list[str] = []

    async def run(child: Child[None]) -> None:
        names.append(trio.lowlevel.current_task().name)
        child.started()

    with trio.fail_after(5):
        leaf = Worker("a", run, restart=Restart.TEMPORARY)
        async with open_tree(Supervisor("app", [Supervisor("s", [leaf])])):
            pass
    assert names == ["s/a"]


async def test_the_path_and_the_incarnation_that_a_child_sees() -> None:
    seen: list[tuple[str, str, int]] = []

    async def run(child: Child[None]) -> None:
        seen.append((child.path, child.name, child.incarnation))
        child.started()
        await child.stopping.wait()

    reader = Worker("reader", run, backoff=NO_BACKOFF)
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Supervisor("service", [Supervisor("processing", [reader])])])) as root:
            root.find("service/processing/reader").kill()
            await settled()
    assert seen == [("service/processing/reader", "reader", 1), ("service/processing/reader", "reader", 2)]


async def test_snapshot_of_a_tree(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor(
        "s", [stage.spec("b"), stage.spec("c", backoff=Backoff(first_s=9, max_s=30, jitter=0))], intensity=SELDOM
    )
    root = Supervisor("app", [stage.spec("a"), inner])
    assert root.snapshot() == root.snapshot()
    assert dataclasses.asdict(root.snapshot()) == {
        "name": "app", "path": "/", "kind": "supervisor", "state": "waiting", "incarnation": 0, "restarts": 0,
        "reason": None, "last_failure": None, "since": None, "children": (
            _waiting("a", "a", "worker"),
            _waiting("s", "s", "supervisor") | {"children": (_waiting("b", "s/b"), _waiting("c", "s/c"))},
        ),
    }  # fmt: skip
    async with open_tree(root):
        await trio.sleep(2)
        stage["c"].fail()
        await settled()
        await trio.sleep(1)
        nodes = {node.path: node for node in root.snapshot().walk()}
        assert list(nodes) == ["/", "a", "s", "s/b", "s/c"]
        assert [node.kind for node in nodes.values()] == ["supervisor", "worker", "supervisor", "worker", "worker"]
        assert nodes["/"] == NodeState(
            "app", "/", "supervisor", State.RUNNING, None, 1, 0, None, 0.0, nodes["/"].children
        )
        assert nodes["s/b"] == NodeState("b", "s/b", "worker", State.RUNNING, None, 1, 0, None, 0.0)
        assert nodes["s/c"] == NodeState("c", "s/c", "worker", State.BACKOFF, None, 1, 0, "Boom: c", 2.0)
        await trio.sleep(9)
        again = root.snapshot().children[1].children[1]
        assert (again.state, again.restarts, again.since, again.last_failure) == (State.RUNNING, 1, 11.0, "Boom: c")


def _waiting(name: str, path: str, kind: str = "worker") -> dict[str, object]:
    return {
        "name": name, "path": path, "kind": kind, "state": "waiting", "incarnation": 0, "restarts": 0,
        "reason": None, "last_failure": None, "since": None, "children": (),
    }  # fmt: skip


async def test_snapshot_as_json() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("ä")])) as root:
            told = json.loads(json.dumps(dataclasses.asdict(root.snapshot())))
            assert [each["name"] for each in told["children"]] == ["ä"]


async def test_snapshot_from_another_thread_while_nobody_runs_the_loop() -> None:
    """What a watchdog does when the process is stuck."""
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Supervisor("s", [stage.spec("a")])])) as root:
            found: list[NodeState] = []
            thread = threading.Thread(target=lambda: found.append(root.snapshot()))
            thread.start()
            thread.join()
            assert [node.state for node in found[0].walk()] == [State.RUNNING] * 3


async def test_the_state_of_the_root(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    stage["a"].start_s = stage["a"].stop_s = 2.0
    states = [root.snapshot().state]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        states.append(root.snapshot().state)
        await trio.sleep(2)
        states.append(root.snapshot().state)
        root.stop()
        await trio.sleep(1)
        states.append(root.snapshot().state)
    assert states == [State.WAITING, State.STARTING, State.RUNNING, State.STOPPING]
    assert root.snapshot().state is State.STOPPED


async def test_an_observer_may_take_itself_off() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    seen: list[str] = []

    def once(event: Event) -> None:
        seen.append(f"{event.path} {event.kind}")
        unsubscribe()

    unsubscribe = root.observe(once)
    root.observe(stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            pass
    assert seen == ["/ starting"]
    assert stage.kinds("/") == ["starting", "started", "stopping", "stopped"]


async def test_a_long_failure_is_cut() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
            stage["a"].fail(ValueError("x" * 10_000))
            await settled()
            text = root.snapshot().children[0].last_failure
            assert text is not None
            assert len(text) == 500
            assert text.startswith("ValueError: xxx")


async def test_events_tell_each_transition_in_order(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("s", [stage.spec("a", backoff=Backoff(first_s=2, max_s=30, jitter=0))], intensity=SELDOM)
    async with open_tree(observed(Supervisor("app", [inner]), stage.observe)):
        await trio.sleep(1)
        stage["a"].fail()
        await trio.sleep(5)
    assert [event.kind for event in stage.events if event.delay_s] == ["backoff"]
    told = [(event.path, str(event.kind), event.incarnation, event.at) for event in stage.events]
    assert told == [
        ("/", "starting", 1, 0),
        ("s", "starting", 1, 0),
        ("s/a", "starting", 1, 0),
        ("s/a", "started", 1, 0),
        ("s", "started", 1, 0),
        ("/", "started", 1, 0),
        ("s/a", "failed", 1, 1),
        ("s/a", "backoff", 1, 1),
        ("s/a", "starting", 2, 3),
        ("s/a", "started", 2, 3),
        ("/", "stopping", 1, 6),
        ("s", "stopping", 1, 6),
        ("s/a", "stopping", 2, 6),
        ("s/a", "stopped", 2, 6),
        ("s", "stopped", 1, 6),
        ("/", "stopped", 1, 6),
    ]


async def test_who_observes_a_pool_sees_the_end_of_a_supervisor_that_leaves_it() -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool")
    pool.observe(stage.observe)
    with trio.fail_after(5):
        async with open_tree(pool):
            part = Supervisor("s", [stage.spec("a")], restart=Restart.TEMPORARY)
            await pool.start(part)
            part.stop()
            await part.wait_down()
            await settled()
            assert stage.kinds("s/a") == stage.kinds("s") == ["starting", "started", "stopping", "stopped"]


async def test_observing_a_part_and_not_any_more() -> None:
    stage, part = Stage(), Supervisor("s", [])
    paths: list[str] = []
    root = Supervisor("app", [stage.spec("a"), Supervisor("s", [stage.spec("b"), stage.spec("c")])])
    below = root.children[1]
    assert isinstance(below, Supervisor)
    unsubscribe = below.observe(lambda event: paths.append(event.path))
    with trio.fail_after(5):
        async with open_tree(root):
            assert paths == ["s", "s/b", "s/b", "s/c", "s/c", "s"]
            unsubscribe()
            unsubscribe()
            root.find("s/b").kill()
            await settled()
    assert len(paths) == 6
    assert part.snapshot().state is State.WAITING


@pytest.mark.parametrize("path", ["x", "s/x", "a/x", "s/b/x", "", "/a"])
async def test_unknown_paths(path: str) -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a"), Supervisor("s", [stage.spec("b")])])) as root:
            with pytest.raises(LookupError):
                root.find(path).kill()
            with pytest.raises(LookupError):
                root.find(path).stop()
            with pytest.raises(LookupError):
                root.find(path).restart()


async def test_nothing_to_ask_of_a_tree_that_does_not_run() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    root.find("a").stop()  # kept down until it is restarted
    root.find("a").restart()
    assert (root.find("a").kill(), root.kill()) == (False, False)
    with pytest.raises(NotRunning):
        root.restart()


async def test_stop_child_of_the_root_path_is_the_stop() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            root = Supervisor("app", [])
            await nursery.start(root.run)
            root.stop()


async def test_stop_with_a_path_is_stop_child() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Supervisor("s", [stage.spec("a"), stage.spec("b")])])) as root:
            root.find("s/a").stop()
            await settled()
            assert stage.up() == {"b"}
            with pytest.raises(LookupError):
                root.find("s/c").stop()


async def test_terminate_child_waits_until_it_is_down(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [Supervisor("s", [stage.spec("a"), stage.spec("b")])])) as root:
        stage["a"].stop_s = 2.0
        await terminate(root, "s/a")
        assert trio.current_time() == 2.0
        assert stage.up() == {"b"}
        await terminate(root, "s/a")
        assert trio.current_time() == 2.0
        await terminate(root, "s")
        assert stage.up() == set()


async def test_two_children_stopped_by_hand_stop_at_the_same_time(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a"), stage.spec("b")])) as root:
        stage["a"].stop_s = stage["b"].stop_s = 2.0
        root.find("a").stop()
        root.find("a").stop()
        await terminate(root, "b")
        await settled()
        assert stage.up() == set()
        assert trio.current_time() == 2.0


async def test_restart_child_that_was_stopped() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a"), Supervisor("s", [stage.spec("b")])])) as root:
            await terminate(root, "s")
            root.find("s").restart()
            root.find("s").restart()
            await settled()
            assert stage.take_log() == "+a +b -b +b"
            root.find("a").restart()  # one that runs is stopped first
            await settled()
            assert stage.take_log() == "-a +a"
            assert root.snapshot().children[0].restarts == 1


async def test_restart_child_that_has_never_been_ready(autojump_clock: MockClock) -> None:
    """A failure to start by hand is retried: the first start of its supervisor is long over."""
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=1.0), stage.spec("b")])
    stage["a"].hangs_in_start = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await settled()
        await terminate(root, "a")
        await settled()
        stage["a"].hangs_in_start = False
        stage["a"].failing_starts = 1
        root.find("a").restart()
        await settled()
        assert stage.take_log() == "+a +b -a +a -a +a"
        root.stop()


async def test_restart_child_that_is_still_stopping(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a"), stage.spec("b")])) as root:
        stage["a"].stop_s = 2.0
        root.find("a").stop()
        await trio.sleep(1)
        root.find("a").restart()
        root.find("a").restart()
        await trio.sleep(5)
        assert stage.take_log() == "+a +b -a +a"
        assert root.snapshot().children[0].state is State.RUNNING


async def test_stopped_and_asked_back_in_one_moment_during_its_start(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=1.0), stage.spec("b")])
    stage["a"].start_s = 5.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        root.find("a").stop()
        root.find("a").restart()
        await trio.sleep(10)
        assert root.snapshot().children[0].state is State.RUNNING
        assert stage.up() == {"a", "b"}
        root.stop()


async def test_restart_child_cuts_the_backoff_short(autojump_clock: MockClock) -> None:
    stage = Stage()
    slow = Backoff(first_s=20, max_s=30, jitter=0)
    root = Supervisor("app", [stage.spec("a", backoff=slow), stage.spec("b", backoff=slow)], intensity=SELDOM)
    async with open_tree(root):
        stage["a"].fail()
        stage["b"].fail()
        await settled()
        root.find("a").restart()
        await settled()
        assert stage.up() == {"a"}
        assert trio.current_time() == 0.0


async def test_stop_child_in_backoff_is_told_and_dated(autojump_clock: MockClock) -> None:
    stage = Stage()
    spec = stage.spec("a", backoff=Backoff(first_s=20, max_s=30, jitter=0))
    root = observed(Supervisor("app", [spec], intensity=SELDOM), stage.observe)
    async with open_tree(root):
        stage["a"].fail()
        await trio.sleep(3)
        root.find("a").stop()
        node = root.snapshot().children[0]
        assert (node.state, node.since) == (State.STOPPED, 3.0)
        await settled()
        assert stage.kinds("a")[-2:] == ["backoff", "stopped"]
        assert stage.events[-1].at == 3.0


async def test_the_root_after_its_end_and_after_the_next(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], intensity=Intensity(0, 1))
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, TooManyRestarts)
        await trio.sleep(3)
        stage["a"].fail()
    assert (root.snapshot().state, root.snapshot().since) == (State.FAILED, 3.0)
    assert root.snapshot().last_failure == "TooManyRestarts: /: more than 0 restarts within 1 s, the last for a"
    async with open_tree(root):
        assert root.snapshot().incarnation == 2
    assert root.snapshot().state is State.STOPPED
    assert (root.snapshot().last_failure or "").startswith("TooManyRestarts")  # the cause stays visible


async def test_stop_child_that_has_no_turn_yet(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b"), stage.spec("c")])
    stage["a"].start_s = 5.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        root.find("b").stop()
        await trio.sleep(5)
        assert stage.take_log() == "+a +c"
        assert root.snapshot().state is State.RUNNING
        root.stop()


async def test_stop_child_that_hangs_in_its_start_lets_the_others_start(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=1.0), stage.spec("b")])
    stage["a"].hangs_in_start = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        await terminate(root, "a")
        await settled()
        assert root.snapshot().state is State.RUNNING
        assert stage.up() == {"b"}
        root.stop()


async def test_stop_child_in_backoff_keeps_no_start_waiting(autojump_clock: MockClock) -> None:
    stage = Stage()
    slow = stage.spec("a", backoff=Backoff(first_s=20, max_s=30, jitter=0))
    root = Supervisor("app", [slow, stage.spec("b")], intensity=SELDOM)
    stage["b"].start_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        stage["a"].fail()
        await settled()
        root.find("a").stop()
        await trio.sleep(2)
        assert root.snapshot().state is State.RUNNING
        root.stop()


async def test_a_kill_is_told_before_the_clean_up_after_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(observed(Supervisor("app", [stage.spec("a")]), stage.observe)) as root:
        stage["a"].clean_up_s = 5.0
        root.find("a").kill()
        await settled()
        assert stage.kinds("a")[-1] == "cancelled"


async def test_stop_child_while_all_stop_does_not_jump_the_queue(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a"), stage.spec("b")])) as root:
        stage["b"].stop_s = 2.0
        root.stop()
        await settled()
        await terminate(root, "a")
        assert trio.current_time() == 2.0
        assert stage.take_log() == "+a +b -b -a"


async def test_restart_child_while_stopping() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
            root.stop()
            with pytest.raises(NotRunning):
                root.find("a").restart()


async def test_below_a_supervisor_that_is_down_nothing_can_be_asked(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("s", [stage.spec("b")])
    async with open_tree(
        Supervisor("app", [inner], intensity=SELDOM, backoff=Backoff(first_s=5, max_s=5, jitter=0))
    ) as root:
        root.find("s").kill()
        await settled()
        assert [node.state for node in root.snapshot().walk()] == ["running", "backoff", "stopped"]
        assert root.find("s/b").kill() is False
        await trio.sleep(6)
        assert root.find("s/b").kill()
