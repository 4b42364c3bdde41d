"""Nodes as handles: started values, waits, verbs, tasks with results."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    AutoShutdown,
    Backoff,
    Child,
    DynamicSupervisor,
    End,
    Event,
    EventKind,
    Intensity,
    Killed,
    Node,
    NotRunning,
    Policy,
    Restart,
    Shutdown,
    SpecError,
    StartFailed,
    State,
    Strategy,
    SupervisionError,
    Supervisor,
    TaskFailed,
    TooManyChildren,
    TooManyRestarts,
    Worker,
    nursery_task,
    open_tree,
)

from .probes import NO_BACKOFF, SELDOM, Boom, Stage, observed, run_expecting, settled


async def number(child: Child[int]) -> None:
    """Its value is its incarnation; ``last_value`` is that of the incarnation before."""
    assert child.last_value == (child.incarnation - 1 or None)
    child.started(child.incarnation)
    await child.stopping.wait()


async def test_the_started_value_is_that_of_the_running_incarnation() -> None:
    worker = Worker("a", number, backoff=NO_BACKOFF)
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [worker])):
            assert worker.value == 1
            assert worker.kill()
            with pytest.raises(NotRunning):  # it is on its way down
                _ = worker.value
            assert await worker.wait_started() == 2
            worker.restart()
            assert await worker.wait_started() == 3
            assert worker.value == 3
    with pytest.raises(NotRunning, match="a is stopped"):
        _ = worker.value


async def test_started_can_be_called_once() -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        with pytest.raises(RuntimeError, match="a called started\\(\\) twice"):
            child.started()
        await child.stopping.wait()

    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Worker("a", run)])) as root:
            await settled()
            assert root.children[0].state is State.RUNNING


async def test_a_wait_for_the_start_goes_through_failures_and_restarts(autojump_clock: MockClock) -> None:
    stage = Stage()
    node = stage.spec("a", backoff=Backoff(first_s=2, max_s=2, jitter=0))
    inner = Supervisor("s", [node], intensity=SELDOM)
    backoff = Backoff(first_s=5, max_s=5, jitter=0)
    async with open_tree(Supervisor("app", [inner], backoff=backoff, intensity=SELDOM)):
        stage["a"].fail()
        await node.wait_down()
        stage["a"].failing_starts = 1
        await node.wait_started()
        assert trio.current_time() == 4
        inner.kill()
        await inner.wait_down()
        assert node.state is State.STOPPED
        await node.wait_started()  # its supervisor is in backoff, and brings it back
        assert trio.current_time() == 9


async def test_a_wait_for_the_start_goes_through_a_restart_of_the_supervisor(autojump_clock: MockClock) -> None:
    stage = Stage()
    node = stage.spec("a")
    inner = Supervisor("s", [stage.spec("slow", grace_s=3.0), node])
    async with open_tree(Supervisor("app", [inner])):
        stage["slow"].deaf = True
        inner.restart()
        await node.wait_down()
        assert (node.state, inner.state) == (State.STOPPED, State.STOPPING)
        await node.wait_started()  # once the other child is down as well
        assert trio.current_time() == 3


@pytest.mark.parametrize("verb", ["stop", "stop the supervisor", "stop the tree", "finish", "escalate"])
async def test_a_wait_for_the_start_ends_when_the_node_does(autojump_clock: MockClock, verb: str) -> None:
    stage = Stage()
    node = stage.spec("a", restart=Restart.TRANSIENT, start_timeout_s=50.0)
    stage["a"].hangs_in_start = True
    inner = Supervisor("s", [node], restart=Restart.TEMPORARY)
    root = Supervisor("app", [inner])
    raised: list[type[Exception]] = []
    ended = trio.Event()

    async def wait() -> None:
        try:
            await node.wait_started()
        except (NotRunning, StartFailed) as error:
            raised.append(type(error))
            ended.set()

    async def run() -> None:
        try:
            await root.run()
        except StartFailed:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(1)
        nursery.start_soon(wait)
        await settled()
        if verb == "stop":
            node.stop()
        elif verb == "stop the supervisor":
            inner.stop()
        elif verb == "stop the tree":
            root.stop()
        elif verb == "finish":
            root.stop(grace_s=0)
        else:
            node.kill()
        with trio.fail_after(20):
            await ended.wait()
        root.stop()
    assert raised == [StartFailed if verb == "escalate" else NotRunning]


async def test_waits_outside_a_run_raise_at_once() -> None:
    worker = Worker("a", number)
    root = Supervisor("app", [worker])
    for node in (worker, root, Worker("b", number)):
        with pytest.raises(NotRunning):
            await node.wait_started()
        await node.wait_down()


async def test_a_stop_with_a_grace_bounds_the_whole_subtree(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("s", [stage.spec(name, grace_s=10.0) for name in "abc"])
    async with open_tree(Supervisor("app", [inner])):
        for name in "abc":
            stage[name].deaf = True
        inner.stop(grace_s=3)
        inner.stop(grace_s=100)  # a stop only gets shorter
        await inner.wait_down()
        assert trio.current_time() == 3
        assert stage.take_log() == "+a +b +c -c -b -a"
        assert inner.state is State.STOPPED
        inner.restart()
        await inner.wait_started()
        assert stage.take_log() == "+a +b +c"


@pytest.mark.parametrize(
    ("bound", "ends_at"), [({}, 101.0), ({"cancel_grace_s": 3.0}, 4.0), ({"cancel_grace_s": 0}, 1.0)]
)
async def test_a_cancel_gives_each_child_its_grace_and_all_together_the_bound(
    autojump_clock: MockClock, bound: dict[str, float], ends_at: float
) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec(f"c{index}", grace_s=10.0) for index in range(10)])
    with trio.move_on_after(1) as scope:
        async with open_tree(root, **bound):
            for probe in stage.probes.values():
                probe.deaf = True
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == ends_at
    assert stage.take_log().split()[10:] == [f"-c{index}" for index in reversed(range(10))]


async def test_a_stop_by_hand_outlives_a_restart_of_the_supervisor() -> None:
    stage = Stage()
    inner = Supervisor("s", [stage.spec("a"), stage.spec("b")])
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [inner], backoff=NO_BACKOFF)) as root:
            root.find("s/a").stop()
            await settled()
            inner.kill()
            await settled()
            assert stage.up() == {"b"}
            root.find("s/a").restart()
            await root.find("s/a").wait_started()
            assert stage.up() == {"a", "b"}


async def test_a_restart_that_is_asked_of_a_running_node_is_not_counted() -> None:
    stage = Stage()
    node = stage.spec("a")
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [node], intensity=Intensity(0))):
            for _ in range(3):
                node.restart()
                await settled()
            assert stage.take_log() == "+a -a +a -a +a -a +a"
            assert node.snapshot().last_failure is None


async def test_the_reason_of_a_stop_is_what_the_child_sees(autojump_clock: MockClock) -> None:
    seen: list[tuple[str, str | None]] = []

    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        seen.append((child.name, child.stop_reason))

    stage = Stage()
    inner = Supervisor(
        "s",
        [stage.spec("a"), Worker("b", run, backoff=NO_BACKOFF)],
        strategy=Strategy.REST_FOR_ONE,
    )
    async with open_tree(Supervisor("app", [inner])) as root:
        stage["a"].fail()
        await settled()
        root.find("s/b").restart()
        await settled()
        root.find("s/b").stop()
        await settled()
        root.find("s/b").restart()
        await settled()
        inner.stop()
        await settled()
        inner.restart()
        await settled()
    assert seen == [
        ("b", "restart of s/a"),
        ("b", "restart"),
        ("b", "stop"),
        ("b", "shutdown of its supervisor"),
        ("b", "shutdown"),
    ]


async def test_a_child_that_has_nothing_to_run_is_a_finished_start() -> None:
    async def run(child: Child[None]) -> None:
        child.ignore()

    stage = Stage()
    root = observed(Supervisor("app", [Worker("a", run), stage.spec("b")]), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            assert root.children[0].state is State.FINISHED
            with pytest.raises(NotRunning):
                await root.children[0].wait_started()
    assert stage.kinds("a") == ["starting", "ignored"]
    assert stage.take_log() == "+b -b"


@pytest.mark.parametrize("restart", Restart)
async def test_a_shutdown_is_no_failure(restart: Restart) -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        if child.incarnation == 1:
            await settled()
            raise ExceptionGroup("", [Shutdown("nothing left")])
        await child.stopping.wait()

    stage = Stage()
    worker = Worker("a", run, restart=restart, backoff=NO_BACKOFF)
    root = observed(Supervisor("app", [worker], intensity=Intensity(1)), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            await settled()
            await settled()
            assert worker.snapshot().last_failure is None
            if restart is Restart.PERMANENT:
                assert (worker.state, worker.snapshot().restarts) == (State.RUNNING, 1)
            else:
                assert (worker.state, worker.snapshot().restarts) == (State.FINISHED, 0)
                assert worker.snapshot().reason is not None
    assert "failed" not in stage.kinds("a")


async def test_a_shutdown_of_a_permanent_child_counts() -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        await settled()
        raise Shutdown("again")

    root = Supervisor("app", [Worker("a", run, backoff=NO_BACKOFF)], intensity=Intensity(1, 5))
    with trio.fail_after(5), pytest.raises(TooManyRestarts) as caught:
        await root.run()
    assert isinstance(caught.value.__cause__, Shutdown)


async def test_children_come_and_go_in_a_static_supervisor() -> None:
    stage = Stage()
    added = Worker("b", number, backoff=NO_BACKOFF)
    inner = Supervisor("s", [stage.spec("a")])
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [inner], backoff=NO_BACKOFF)):
            assert await inner.start(added) == 1
            assert [node.path for node in inner.children] == ["s/a", "s/b"]
            added.kill()
            assert await added.wait_started() == 2
            await inner.remove(added)
            assert [node.path for node in inner.children] == ["s/a"]
            assert await inner.start(added) == 3  # the object can be added again
            refused = stage.spec("c")
            stage["c"].failing_starts = 1
            with pytest.raises(StartFailed) as caught:
                await inner.start(refused)
            assert isinstance(caught.value.__cause__, Boom)
            assert len(inner.children) == 2  # a failed first start is not kept
            inner.kill()
            await settled()
            assert [node.path for node in inner.children] == ["s/a"]
            assert added.state is State.STOPPED
            with pytest.raises(NotRunning):
                added.restart()
            with pytest.raises(LookupError):
                await inner.remove(added)
            await inner.remove(inner.children[0])
            assert len(inner.children) == 0


async def test_a_start_goes_on_through_a_restart_of_its_group(autojump_clock: MockClock) -> None:
    stage = Stage()
    node = stage.spec("b")
    stage["b"].start_s = 2.0
    async with open_tree(Supervisor("app", [stage.spec("a")], strategy=Strategy.ONE_FOR_ALL)) as root:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.start, node)
            await trio.sleep(1)
            stage["a"].fail()
        assert trio.current_time() == 4
        assert stage.take_log() == "+a +b -a -b +a +b"


async def test_a_child_may_add_another_before_it_has_started_itself() -> None:
    async def nothing(child: Child[None]) -> None:
        child.ignore()

    async def run(child: Child[int]) -> None:
        with pytest.raises(NotRunning, match="b is finished"):
            await root.start(Worker("b", nothing))
        child.started(await root.start(Worker("c", number)))

    root = Supervisor("app", [Worker("a", run, restart=Restart.TRANSIENT)])
    with trio.fail_after(5):
        async with open_tree(root):
            assert [node.state for node in root.children] == [State.FINISHED, State.FINISHED, State.RUNNING]


async def test_a_cancelled_start_is_taken_back(autojump_clock: MockClock) -> None:
    stage = Stage()
    node = stage.spec("b", grace_s=100.0)
    stage["b"].hangs_in_start = True
    stage["b"].clean_up_s = 3.0
    async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
        with trio.move_on_after(1) as scope:
            await root.start(node)
        assert scope.cancelled_caught
        assert trio.current_time() == 4  # the caller waits for the clean-up, as in `trio.Nursery.start`
        assert stage.up() == {"a"}
        assert len(root.children) == 1
        stage["b"].last_words = Boom("clean-up")
        with trio.move_on_after(1), pytest.raises(StartFailed) as caught:
            await root.start(node)
        assert isinstance(caught.value.__cause__, Boom)
        stage["b"].last_words, stage["b"].hangs_in_start = None, False
        with trio.CancelScope() as scope:
            scope.cancel()
            await root.start(node)
        assert len(root.children) == 1


async def test_a_start_that_is_done_is_not_undone_by_a_cancel(autojump_clock: MockClock) -> None:
    async with open_tree(DynamicSupervisor("pool")) as pool:
        with trio.CancelScope() as scope:
            worker = Worker("a", number, backoff=NO_BACKOFF)

            def cancel(event: Event) -> None:
                if event.kind is EventKind.STARTED:
                    scope.cancel()

            pool.observe(cancel)
            assert await pool.start(worker) == 1
        await settled()
        assert worker.state is State.RUNNING


async def test_a_wait_for_the_end_returns_how_the_node_ended() -> None:
    stage = Stage()
    node = stage.spec("a")
    root = Supervisor("app", [node, stage.spec("b", restart=Restart.TRANSIENT)])
    ends: list[End | None] = []

    async def wait(each: Node[object]) -> None:
        ends.append(await each.wait_down())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, open_tree(root):
            for waited, act in (
                (node, lambda: stage["a"].fail()),
                (node, lambda: root.find("a").kill()),
                (root.find("b"), lambda: stage["b"].finish()),
                (node, lambda: node.stop()),
            ):
                nursery.start_soon(wait, waited)
                await settled()
                act()
                await settled()
            assert await node.wait_down() is None  # it was down before
            nursery.start_soon(wait, root)
            await settled()
    shown = [(end.path, end.incarnation, str(end.kind), type(end.error), end.reason) for end in ends if end]
    assert shown == [
        ("a", 1, "failed", Boom, None),
        ("a", 2, "failed", Killed, None),
        ("b", 1, "returned", type(None), None),
        ("a", 3, "stopped", type(None), "stop"),
        ("/", 1, "stopped", type(None), "shutdown"),
    ]


def test_the_policy_of_a_node_can_be_read() -> None:
    backoff = Backoff(max_s=2)
    worker = Worker("a", number, restart=Restart.TRANSIENT, grace_s=3, start_timeout_s=4, backoff=backoff)
    assert worker.policy == Policy(Restart.TRANSIENT, 3, 4, significant=False, backoff=backoff)
    assert Supervisor("s").policy == Policy(Restart.PERMANENT, math.inf, math.inf, significant=False)
    assert DynamicSupervisor("p").policy == Policy(Restart.PERMANENT, 30, math.inf, significant=False)


async def test_map_runs_so_many_at_a_time(autojump_clock: MockClock) -> None:
    running: list[int] = []

    async def slow(value: int) -> int:
        running.append(value)
        assert len(running) <= 3
        await trio.sleep(1 / value)
        running.remove(value)
        return 10 * value

    pool = DynamicSupervisor("pool", max_children=5)
    async with open_tree(pool):
        for _ in range(3):  # it waits for the places that others have
            pool.start_task(trio.sleep, 1)
        assert await pool.map(slow, iter(range(1, 8)), limit=3) == [10, 20, 30, 40, 50, 60, 70]
        assert await pool.map(slow, [], limit=3) == []
        for limit in (0, True):
            with pytest.raises(SpecError, match="limit must be an integer of at least 1"):
                await pool.map(slow, [1], limit=limit)


async def test_a_failure_in_map_cancels_the_others(autojump_clock: MockClock) -> None:
    async def crash_at_two(value: int) -> int:
        await trio.sleep(value)
        if value == 2:
            raise Boom("two")
        return value

    async with open_tree(DynamicSupervisor("pool")) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            await pool.map(crash_at_two, [1, 2, 50], limit=3)
        assert caught.group_contains(TaskFailed)
        assert pool.children == ()
        assert trio.current_time() == 2


async def test_a_full_pool_can_be_waited_for(autojump_clock: MockClock) -> None:
    pool = DynamicSupervisor("pool", max_children=2)
    started_at: list[float] = []

    async def start() -> None:
        await pool.wait_for_place()
        pool.start_task(trio.sleep, 1)
        started_at.append(trio.current_time())

    async with open_tree(Supervisor("app", [pool])):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(start)
        assert started_at == [0, 0, 1, 1, 2]
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.wait_for_place()
        assert scope.cancelled_caught  # it is a checkpoint also while there is a place
    with pytest.raises(NotRunning):
        await start()


async def test_a_pool_can_be_significant(autojump_clock: MockClock) -> None:
    pool = DynamicSupervisor("pool", restart=Restart.TEMPORARY, significant=True)
    async with open_tree(Supervisor("app", [pool], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)):
        pool.kill()
        await trio.sleep(math.inf)  # the end of the pool ends the tree, and the tree ends this block
    assert pool.state is State.FAILED


async def double(value: int) -> int:
    await trio.sleep(1)
    return 2 * value


async def explode() -> int:
    raise Boom("task")


async def test_results_of_tasks(autojump_clock: MockClock) -> None:
    pool = DynamicSupervisor("pool", max_children=3)
    with pytest.raises(NotRunning):
        pool.start_task(double, 1)
    async with open_tree(Supervisor("app", [pool])):
        task = pool.start_task(double, 4, name="four")
        assert (task.path, task.state) == ("pool/four", State.WAITING)
        assert await pool.call(double, 5) == 10
        assert await task.result() == await task.result() == 8
        assert (task.path, task.state) == ("pool/four", State.FINISHED)
        failed = pool.start_task(explode)
        with pytest.raises(TaskFailed, match="pool/task-3 failed") as caught:
            await failed.result()
        assert isinstance(caught.value.__cause__, Boom)
        slow, stopped, killed = (pool.start_task(double, number) for number in range(3))
        with pytest.raises(TooManyChildren):
            pool.start_task(double, 6)
        await settled()
        stopped.stop()
        killed.kill()
        with pytest.raises(TaskFailed, match="was stopped") as caught:
            await stopped.result()
        assert caught.value.__cause__ is None
        with pytest.raises(TaskFailed, match="failed") as caught:
            await killed.result()
        assert isinstance(caught.value.__cause__, Killed)
        with trio.move_on_after(0.5):
            await slow.result()
        assert slow.state is State.RUNNING or slow.state is State.WAITING  # a cancelled wait changes nothing
        assert await slow.result() == 0


async def test_a_task_runs_in_the_context_of_its_caller() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")

    async def current() -> str:
        await trio.lowlevel.checkpoint()
        seen = request.get()
        request.set("changed by the task")
        return seen

    async with open_tree(DynamicSupervisor("pool")) as pool:
        request.set("request-7")
        assert await pool.call(current) == "request-7"
        assert await pool.start_task(current).result() == "request-7"
        assert request.get() == "request-7"


async def test_names_of_tasks_never_collide() -> None:
    with trio.fail_after(5):
        async with open_tree(DynamicSupervisor("pool")) as pool:
            names = ["task-1", "", "fetch", "", "fetch", pool.new_name("fetch")]
            paths = [pool.start_task(trio.sleep_forever, name=name).path for name in names]
            assert paths == ["task-1", "task-2", "fetch", "task-3", "fetch-4", "fetch-1"]


async def test_a_task_is_not_restarted_by_hand(autojump_clock: MockClock) -> None:
    async with open_tree(DynamicSupervisor("pool")) as pool:
        task = pool.start_task(double, 4)
        with pytest.raises(SupervisionError, match="task-1 is a task, which runs once"):
            task.restart()
        assert await task.result() == 8


async def test_an_added_temporary_child_is_forgotten_after_its_end() -> None:
    async def once(child: Child[None]) -> None:
        child.started()

    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a", restart=Restart.TEMPORARY)])) as root:
            for _ in range(3):
                await root.start(Worker("job", once, restart=Restart.TEMPORARY))
                await settled()
                assert [node.name for node in root.children] == ["a"]
            stage["a"].finish()  # it was not added: the description of the tree has it
            await settled()
            assert [(node.name, node.state) for node in root.children] == [("a", State.FINISHED)]


async def test_a_temporary_child_that_a_group_restart_ended_is_forgotten_and_the_tree_goes_on() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")], strategy=Strategy.ONE_FOR_ALL)
    with trio.fail_after(5):
        async with open_tree(root):
            await root.start(stage.spec("job", restart=Restart.TEMPORARY))
            for name in "ab":
                stage[name].fail()
                await settled()
                assert [node.name for node in root.children] == ["a", "b"]
                assert stage.up() == {"a", "b"}


async def test_a_task_may_use_its_grace_to_end(autojump_clock: MockClock) -> None:
    pool = DynamicSupervisor("pool")
    async with open_tree(pool):
        task = pool.start_task(double, 4, grace_s=3)
        await settled()
        task.stop()
        assert await task.result() == 8


async def test_a_cancelled_call_cancels_the_task_and_waits(autojump_clock: MockClock) -> None:
    ended: list[float] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            ended.append(trio.current_time())

    pool = DynamicSupervisor("pool")
    async with open_tree(pool):
        with trio.move_on_after(1):
            await pool.call(slow)
        assert ended == [trio.current_time()] == [3]
        assert pool.children == ()


async def test_a_plain_function_is_cancelled_as_soon_as_the_stop_is_requested(autojump_clock: MockClock) -> None:
    async def serve(task_status: trio.TaskStatus[str]) -> None:
        await trio.sleep(1)
        task_status.started("listening")
        await trio.sleep_forever()

    server = Worker("server", nursery_task(serve, start=True))
    plain = Worker("plain", nursery_task(trio.sleep, math.inf))
    async with open_tree(Supervisor("app", [server, plain])):
        assert (server.value, plain.value) == ("listening", None)
    assert trio.current_time() == 1


async def test_a_child_that_holds_its_cancellation_back_is_reported(autojump_clock: MockClock) -> None:
    stage = Stage()
    node = stage.spec("a", grace_s=1.0)
    root = observed(Supervisor("app", [node]), stage.observe)
    async with open_tree(root):
        stage["a"].deaf = True
        stage["a"].clean_up_s = 20.0
    assert [(str(event.kind), event.at) for event in stage.events if event.path == "a"] == [
        ("starting", 0),
        ("started", 0),
        ("stopping", 0),
        ("cancelled", 1),
        ("stuck", 6),
        ("stopped", 21),
    ]


async def test_events_are_numbered_and_a_cause_comes_before_its_effect(autojump_clock: MockClock) -> None:
    stage, inner_events = Stage(), Stage()
    inner = observed(Supervisor("s", [stage.spec("a"), stage.spec("b")], intensity=Intensity(0)), inner_events.observe)
    root = observed(Supervisor("app", [inner], backoff=NO_BACKOFF), stage.observe)
    async with open_tree(root):
        stage["b"].fail()
        await trio.sleep(1)
    assert [event.seq for event in stage.events] == list(range(1, len(stage.events) + 1))
    assert inner_events.events == [event for event in stage.events if event.path != "/"]
    kinds = [f"{event.path} {event.kind}" for event in stage.events]
    assert kinds[kinds.index("s/b failed") :][:7] == [
        "s/b failed",
        "s escalated",
        "s stopping",
        "s/a stopping",
        "s/a stopped",
        "s failed",
        "s backoff",
    ]
    assert kinds[-6:] == [
        "s/b stopping",
        "s/b stopped",
        "s/a stopping",
        "s/a stopped",
        "s stopped",
        "/ stopped",
    ]


async def test_a_significant_child_below_and_the_reason_of_an_automatic_shutdown() -> None:
    stage = Stage()
    job = stage.spec("job", restart=Restart.TRANSIENT, significant=True)
    root = observed(
        Supervisor("app", [stage.spec("a"), job], auto_shutdown=AutoShutdown.ALL_SIGNIFICANT), stage.observe
    )
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            stage["job"].finish()
    (stopping,) = [event for event in stage.events if event.path == "/" and event.kind == "stopping"]
    assert stopping.reason == "automatic shutdown"


def calls_of(count: int, *, static: bool = False) -> int:
    """How many Python calls it takes to start that many children, and to stop them."""
    calls = 0

    def counting(_frame: Any, what: str, _argument: Any) -> None:
        nonlocal calls
        calls += what == "call"

    async def idle(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()

    async def main() -> None:
        children = [Worker(f"c{index}", idle) for index in range(count)]
        pool = DynamicSupervisor("pool")
        sys.setprofile(counting)
        try:
            async with open_tree(Supervisor("app", children if static else [pool])), trio.open_nursery() as nursery:
                for child in [] if static else children:
                    nursery.start_soon(pool.start, child)
        finally:
            sys.setprofile(None)

    trio.run(main)
    return calls


@pytest.mark.parametrize("static", [True, False])
def test_the_work_of_many_children_grows_with_their_number(static: bool) -> None:
    """Counted in calls, so that the machine's load does not matter: before, each start looked at all the others."""
    assert calls_of(2_000, static=static) <= 2.1 * calls_of(1_000, static=static)


@pytest.mark.parametrize("act", [lambda pool: pool.call(double, 1), lambda pool: pool.start_task(double, 1).result()])
async def test_a_wait_for_a_result_ends_with_the_pool(
    autojump_clock: MockClock, act: Callable[[DynamicSupervisor], Any]
) -> None:
    failed: list[str] = []
    pool = DynamicSupervisor("pool")

    async def wait() -> None:
        with pytest.raises(TaskFailed, match="was stopped"):
            await act(pool)
        failed.append("ended")

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(pool.run))
        nursery.start_soon(wait)
        await trio.sleep(0.5)
        pool.stop()
    assert failed == ["ended"]


async def test_to_wait_for_a_node_that_runs_is_a_checkpoint() -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
        with trio.testing.assert_checkpoints():
            await root.find("a").wait_started()


async def test_a_task_that_failed_had_started() -> None:
    async with open_tree(DynamicSupervisor("pool")) as pool:
        task = pool.start_task(explode)
        with pytest.raises(TaskFailed):
            await task.result()
        with pytest.raises(NotRunning):
            await task.wait_started()


async def test_a_killed_root_says_why_it_stops() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")]), stage.observe)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, Killed)
            root.kill()
    assert [event.reason for event in stage.events if event.path == "/" and event.kind is EventKind.STOPPING] == [
        "kill"
    ]
