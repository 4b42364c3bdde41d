from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    AutoShutdown,
    Backoff,
    Child,
    DynamicSupervisor,
    Event,
    EventKind,
    Killed,
    Restart,
    StartFailed,
    State,
    Strategy,
    Supervisor,
    Worker,
    open_tree,
)

from .probes import SELDOM, Stage, observed, run_expecting, settled


async def test_stop_gives_each_child_its_grace_in_turn(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=3.0), stage.spec("b", grace_s=3.0)])
    stage["a"].stop_s = stage["b"].stop_s = 2.0
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        root.stop()
        await trio.sleep(1)
        assert [child.state for child in root.snapshot().children] == [State.RUNNING, State.STOPPING]
    assert trio.current_time() == 4.0
    assert stage.take_log() == "+a +b -b -a"


async def test_who_outstays_its_grace_is_cancelled(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a", grace_s=3.0), stage.spec("b", grace_s=2.0)]), stage.observe)
    stage["b"].deaf = True
    async with open_tree(root):
        pass
    assert trio.current_time() == 2.0
    assert stage.kinds("b") == ["starting", "started", "stopping", "cancelled", "stopped"]
    assert [event.error for event in stage.events if event.kind == "cancelled"] == [None]
    assert stage.kinds("a") == ["starting", "started", "stopping", "stopped"]


async def test_no_grace_cancels_at_once(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", grace_s=0), stage.spec("b", grace_s=9)])):
        stage["a"].deaf = True
        stage["a"].stop_s = stage["b"].stop_s = 1.0
    assert trio.current_time() == 1.0


async def test_infinite_grace(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", grace_s=float("inf"))])):
        stage["a"].stop_s = 1e6
    assert trio.current_time() == 1e6


async def test_run_returns_only_after_the_clean_up_of_the_cancelled(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a"), stage.spec("b", grace_s=1.0)])):
        stage["b"].deaf = True
        stage["b"].clean_up_s = 10.0
    assert trio.current_time() == 11.0
    assert stage.take_log() == "+a +b -b -a"


async def test_stop_asked_again_changes_nothing(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", grace_s=3.0)])) as root:
        stage["a"].deaf = True
        root.stop()
        await trio.sleep(2)
        root.stop()
    assert trio.current_time() == 3.0
    root.stop()


async def test_abort_during_a_stop_skips_the_grace(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("s", [stage.spec("b", grace_s=float("inf"))])
    root = observed(Supervisor("app", [stage.spec("a"), inner]), stage.observe)
    async with open_tree(root):
        stage["a"].deaf = stage["b"].deaf = True
        stage["b"].clean_up_s = 1.0
        root.stop()
        await trio.sleep(2)
        root.stop(0)
        root.stop(0)
        await settled()
        root.stop(0)
    assert trio.current_time() == 3.0
    assert stage.take_log() == "+a +b -b -a"
    assert stage.kinds("s/b") == ["starting", "started", "stopping", "cancelled", "stopped"]
    assert stage.kinds("s") == ["starting", "started", "stopping", "cancelled", "stopped"]
    root.stop(0)


async def test_stop_while_starting(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b", grace_s=2.0), stage.spec("c")])
    stage["b"].hangs_in_start = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        root.stop()
    assert trio.current_time() == 3.0
    assert stage.take_log() == "+a +b -b -a"
    assert [child.state for child in root.snapshot().children] == [State.STOPPED] * 3


async def test_ready_during_the_stop_starts_nobody(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")])
    stage["a"].start_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        root.stop()
    assert stage.take_log() == "+a -a"


async def test_stop_before_the_run() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    root.stop()
    with trio.fail_after(5):
        await root.run()
        assert stage.take_log() == ""
        async with open_tree(root):  # that request is used up
            assert stage.take_log() == "+a"


async def test_stop_between_two_runs_ends_the_next_one_at_once() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    with trio.fail_after(5):
        async with open_tree(root):
            pass
        assert stage.take_log() == "+a -a"
        root.stop()
        await root.run()
        assert stage.take_log() == ""
        async with open_tree(root):
            assert stage.up() == {"a"}


async def test_the_run_of_a_stopped_root_is_a_checkpoint() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    root.stop()
    with trio.CancelScope() as scope:
        scope.cancel()
        await root.run()
    assert scope.cancelled_caught
    assert root.state is State.STOPPED
    assert stage.take_log() == ""


async def test_an_automatic_shutdown_ends_the_block_of_open_tree(autojump_clock: MockClock) -> None:
    stage = Stage()
    job = stage.spec("job", restart=Restart.TRANSIENT, significant=True)
    root = Supervisor("app", [job], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    for _ in range(2):  # the end of the block does not stop the next run
        async with open_tree(root):
            await trio.sleep(1)
            stage["job"].finish()
            await trio.sleep_forever()
    assert trio.current_time() == 2
    assert stage.take_log() == "+job -job +job -job"


async def test_a_block_goes_on_after_a_stop_by_hand(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
        root.stop()
        await trio.sleep(10)
        assert root.state is State.STOPPED
    assert trio.current_time() == 10


async def test_stop_during_backoff(autojump_clock: MockClock) -> None:
    stage = Stage()
    slow = stage.spec("b", backoff=Backoff(first_s=20, max_s=30, jitter=0))
    root = Supervisor("app", [stage.spec("a"), slow], intensity=SELDOM)
    async with open_tree(root):
        stage["b"].fail()
        await trio.sleep(1)
        assert root.snapshot().children[1].state is State.BACKOFF
    assert trio.current_time() == 1.0
    assert stage.take_log() == "+a +b -b -a"


async def test_stop_in_the_same_moment_as_a_crash() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(
            Supervisor("app", [stage.spec("a"), stage.spec("b")], strategy=Strategy.ONE_FOR_ALL)
        ) as root:
            stage["a"].fail()
            root.stop()
    assert stage.take_log() == "+a +b -a -b"
    assert {child.state for child in root.snapshot().children} == {State.FAILED, State.STOPPED}


async def test_stop_in_the_same_moment_as_a_return() -> None:
    stage = Stage()
    specs = [stage.spec("a", restart=Restart.TRANSIENT), stage.spec("b")]
    root = observed(Supervisor("app", specs), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].finish()
            root.stop()
    assert root.snapshot().children[0].state is State.FINISHED
    assert stage.kinds("a") == ["starting", "started", "returned"]


async def test_stop_while_a_group_is_being_stopped(autojump_clock: MockClock) -> None:
    """The child that is on its way out keeps its deadline: two stops do not give two graces."""
    stage = Stage()
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("c", grace_s=5.0)]
    root = observed(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL), stage.observe)
    async with open_tree(root):
        stage["c"].deaf = True
        stage["a"].fail()
        await trio.sleep(3)
        root.stop()
    assert trio.current_time() == 5.0
    assert stage.kinds("c") == ["starting", "started", "stopping", "cancelled", "stopped"]
    assert stage.take_log() == "+a +b +c -a -c -b"


async def test_nested_stop_is_in_order(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c")])
    root = Supervisor("app", [stage.spec("a"), inner, stage.spec("d")])
    async with open_tree(root):
        for name in "bcd":
            stage[name].stop_s = 1.0
        assert stage.take_log() == "+a +b +c +d"
    assert stage.take_log() == "-d -c -b -a"
    assert trio.current_time() == 3.0


async def test_a_supervisor_with_a_grace_of_its_own_is_cut_short(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c", grace_s=60)], grace_s=2.0)
    root = Supervisor("app", [stage.spec("a"), inner])
    async with open_tree(root):
        stage["b"].deaf = stage["c"].deaf = True
    assert trio.current_time() == 2.0
    assert stage.take_log() == "+a +b +c -c -b -a"


async def test_a_supervisor_can_run_again_but_not_twice_at_once() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    with trio.fail_after(5):
        async with open_tree(root):
            with pytest.raises(RuntimeError, match="running already"):
                await root.run()
        async with open_tree(root):
            assert stage["a"].lives == 2
            assert root.snapshot().children[0].incarnation == 2


async def test_the_failure_of_the_tree_cancels_the_block_of_open_tree() -> None:
    stage = Stage()

    async def block() -> None:
        async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
            root.kill()
            await trio.sleep_forever()

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await block()
    assert caught.group_contains(Killed)


async def test_children_of_a_dynamic_supervisor_stop_together(autojump_clock: MockClock) -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool")
    async with open_tree(pool):
        for name in "abc":
            await pool.start(stage.spec(name))
            stage[name].stop_s = 2.0
    assert trio.current_time() == 2.0
    assert stage.up() == set()


async def test_until_stopping_entered_while_stopping() -> None:
    seen: list[bool] = []

    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        with child.until_stopping() as scope:
            await trio.sleep_forever()
        seen.append(scope.cancelled_caught)
        with child.until_stopping():
            pass

    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Worker("a", run)])):
            pass
    assert seen == [True]


@pytest.mark.parametrize(
    ("act", "reasons"),
    [
        ("stop", [("stopping", "stop"), ("stopped", "stop")]),
        ("kill", [("cancelled", "kill"), ("stopping", "kill"), ("failed", "kill")]),
    ],
)
async def test_a_supervisor_that_is_stopped_before_its_first_step_keeps_the_reason(
    act: str, reasons: list[tuple[str, str]]
) -> None:
    """Its task exists then, and none of its children."""
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("a")])

    def interfere(event: Event) -> None:
        if (event.path, event.kind, event.incarnation) == ("inner", "starting", 2):
            getattr(inner, act)()

    async with open_tree(observed(Supervisor("app", [inner]), interfere, stage.observe)):
        stage.take_log()
        inner.kill()
        while inner.snapshot().incarnation < 2:
            await trio.lowlevel.checkpoint()
        await settled()
        seen = [(str(event.kind), event.reason) for event in stage.events if event.path == "inner"]
        after = seen[seen.index(("starting", None), 1) + 1 :]
        assert after[: len(reasons)] == reasons
        assert seen[2:5] == [("cancelled", "kill"), ("stopping", "kill"), ("failed", "kill")]  # once all had begun
        assert inner.children[0].snapshot().reason == "shutdown of its supervisor"
        assert stage.take_log().startswith("-a")


async def test_a_child_that_is_stopped_in_its_backoff_has_the_reason(autojump_clock: MockClock) -> None:
    stage = Stage()
    slow = Backoff(first_s=5.0, max_s=5.0)
    names = ("by hand", "with the tree")
    root = Supervisor("app", [stage.spec(name.replace(" ", "-"), backoff=slow) for name in names], intensity=SELDOM)
    async with open_tree(root):
        for child in root.children:
            child.kill()
        await settled()
        root.children[0].stop()
    assert [child.snapshot().reason for child in root.children] == ["stop", "shutdown"]


async def test_a_pool_that_stops_forgets_a_child_in_its_backoff_at_once(autojump_clock: MockClock) -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool", intensity=SELDOM)
    async with open_tree(Supervisor("app", [pool])) as root:
        for name in ("a", "b"):
            await pool.start(stage.spec(name, backoff=Backoff(first_s=5.0, max_s=5.0)))
        pool.find("pool/a").kill()
        stage["b"].stop_s = 1.0
        await settled()
        root.stop()
        await settled()
        assert [child.name for child in pool.children] == ["b"]


async def test_a_deadline_of_the_start_at_the_time_of_a_report_makes_no_second_one(autojump_clock: MockClock) -> None:
    stage = Stage()
    child = stage.spec("a", start_timeout_s=10.0, grace_s=0.0)
    async with open_tree(observed(Supervisor("app", [child]), stage.observe)):
        stage["a"].hangs_in_start = True
        child.restart()
        await trio.sleep(5)
        stage["a"].clean_up_s = 20.0
    assert stage.kinds("a").count("stuck") == 1


async def test_a_supervisor_is_never_stuck_itself(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("a"), stage.spec("b")], start_timeout_s=10.0)
    stage["b"].hangs_in_start = True
    stage["a"].clean_up_s = 30.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_expecting, observed(Supervisor("app", [inner]), stage.observe), StartFailed)
        await trio.sleep(1)
        inner.kill()
    assert (stage.kinds("inner/a").count("stuck"), stage.kinds("inner").count("stuck")) == (1, 0)


async def test_a_supervisor_that_gives_up_during_its_start_has_time_for_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("a", grace_s=60.0), stage.spec("b")], start_timeout_s=10.0)
    stage["a"].stop_s, stage["b"].failing_starts = 30.0, 1
    await run_expecting(Supervisor("app", [inner]), StartFailed)
    assert trio.current_time() == 30.0


async def test_a_child_that_has_started_is_not_waited_for(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", start_timeout_s=10.0)])) as root:
        assert root.children[0]._record.deadline == math.inf


async def test_a_child_that_is_stopped_during_its_start_has_its_whole_grace(autojump_clock: MockClock) -> None:
    async def run(child: Child[None]) -> None:
        await child.stopping.wait()
        await trio.sleep(20)

    async with trio.open_nursery() as nursery:
        root = Supervisor("app", [Worker("a", run, start_timeout_s=10.0, grace_s=60.0)])
        nursery.start_soon(root.run)
        await trio.sleep(5)
        root.stop()
    assert trio.current_time() == 25.0


async def test_a_child_that_is_being_removed_is_removed_even_if_it_is_stopped_too(autojump_clock: MockClock) -> None:
    stage = Stage()
    child = stage.spec("a", grace_s=60.0)
    async with open_tree(Supervisor("app", [child])) as root, trio.open_nursery() as nursery:
        stage["a"].deaf = True
        nursery.start_soon(root.remove, child)
        await settled()
        child.stop(grace_s=1.0)
        await child.wait_down()
        assert (trio.current_time(), root.children) == (1.0, ())


async def test_a_child_can_be_given_less_time_while_another_one_has_its_turn(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", grace_s=60.0), stage.spec("b", grace_s=60.0)])) as root:
        stage["a"].deaf = stage["b"].deaf = True
        root.children[0].stop()
        root.stop()
        await settled()
        root.children[0].stop(grace_s=1.0)
        await root.children[0].wait_down()
        assert (trio.current_time(), stage.up()) == (1.0, {"b"})


async def test_less_time_for_all_counts_for_a_child_that_was_stopped_before(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", grace_s=60.0), stage.spec("b", grace_s=60.0)])) as root:
        stage["a"].deaf = stage["b"].deaf = True
        stage["b"].clean_up_s = 5.0
        root.children[0].stop()
        root.stop(grace_s=1.0)
        await root.children[0].wait_down()
        assert (trio.current_time(), stage.up()) == (1.0, {"b"})


async def test_a_stop_ends_the_restart_of_a_group(autojump_clock: MockClock) -> None:
    stage = Stage()
    specs = [stage.spec(name) for name in ("a", "b", "c")]
    async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)) as root:
        stage["a"].stop_s = stage["b"].stop_s = 1.0
        stage["c"].fail()
        await settled()
        assert [child.state for child in root.children] == [State.RUNNING, State.STOPPING, State.BACKOFF]
        root.stop()
        await trio.sleep(1.5)
        assert [child.state for child in root.children] == [State.STOPPING, State.STOPPED, State.STOPPED]
    assert stage.take_log() == "+a +b +c -c -b -a"


async def test_a_killed_child_that_is_stopped_too_is_still_reported(autojump_clock: MockClock) -> None:
    stage = Stage()
    child = stage.spec("a")
    async with open_tree(observed(Supervisor("app", [child]), stage.observe)):
        stage["a"].clean_up_s = 20.0
        child.kill()
        await trio.sleep(1)
    assert [event.at for event in stage.events if event.kind is EventKind.STUCK] == [5.0]
    (cancelled,) = [event for event in stage.events if event.kind is EventKind.CANCELLED]
    assert isinstance(cancelled.error, Killed)


async def test_a_child_that_stops_its_pool_during_its_restart_ends_once() -> None:
    stage = Stage()
    pool = observed(DynamicSupervisor("pool"), stage.observe)

    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        pool.stop()

    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        child = Worker("a", run)
        await pool.start(child)
        child.restart()
    assert stage.kinds("a") == ["starting", "started", "stopping", "stopped"]


async def test_a_child_of_a_pool_comes_back_after_a_restart() -> None:
    stage = Stage()
    async with open_tree(DynamicSupervisor("pool")) as pool:
        child = stage.spec("a")
        await pool.start(child)
        child.restart()
        await settled()
        assert (child.state, child.snapshot().incarnation) == (State.RUNNING, 2)
