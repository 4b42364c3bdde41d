from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Backoff,
    Child,
    ChildSpec,
    DynamicSupervisor,
    Intensity,
    NoSuchChild,
    NotRunning,
    Restart,
    SpecError,
    StartFailed,
    StartTimeout,
    State,
    Supervisor,
    TooManyChildren,
    TooManyRestarts,
    open_tree,
)
from tests.supervisors.probes import PLENTY, SELDOM, Boom, Stage, run_expecting, settled


async def test_children_come_and_go() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            assert await pool.start_child(stage.spec("a")) == "a"
            assert await pool.start_child(stage.spec("b")) == "b"
            assert [child.path for child in pool.snapshot().children] == ["a", "b"]
            await pool.terminate_child("a")
            assert stage.up() == {"b"}
            assert [child.path for child in pool.snapshot().children] == ["b"]
            await pool.start_child(stage.spec("a"))
            assert stage.up() == {"a", "b"}
    assert stage.up() == set()


async def test_below_a_root_its_paths_go_on() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [pool])) as root:
            assert await pool.start_child(stage.spec("a")) == "pool/a"
            assert [node.path for node in pool.snapshot().walk()] == ["pool", "pool/a"]
            root.stop_child("pool/a")
            await settled()
            assert pool.snapshot().children == ()


async def test_start_child_waits_for_ready(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a")
        stage["a"].start_s = 4.0
        await pool.start_child(spec)
        assert trio.current_time() == 4.0


async def test_a_failed_start_is_told_and_neither_kept_nor_counted() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=Intensity(0))
    with trio.fail_after(5):
        async with open_tree(pool):
            spec = stage.spec("a")
            for _ in range(3):
                stage["a"].failing_starts = 1
                with pytest.raises(StartFailed) as caught:
                    await pool.start_child(spec)
                assert isinstance(caught.value.__cause__, Boom)
            assert pool.snapshot().children == ()
            await pool.start_child(spec)
            assert stage["a"].lives == 4


async def test_a_hanging_start_is_cancelled_and_told(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a", start_timeout_s=2.0)
        stage["a"].hangs_in_start = True
        with pytest.raises(StartFailed) as caught:
            await pool.start_child(spec)
        assert isinstance(caught.value.__cause__, StartTimeout)
        assert trio.current_time() == 2.0
        assert stage.up() == set()


async def test_an_ended_child_is_forgotten_and_a_failed_one_restarted() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=PLENTY)
    with trio.fail_after(5):
        async with open_tree(pool):
            for name, restart in (("p", Restart.PERMANENT), ("r", Restart.TRANSIENT), ("t", Restart.TEMPORARY)):
                await pool.start_child(stage.spec(name, restart=restart))
            stage.take_log()
            for name in "prt":
                stage[name].fail()
            await settled()
            assert stage.up() == {"p", "r"}
            assert [child.path for child in pool.snapshot().children] == ["p", "r"]
            stage["r"].finish()
            await settled()
            assert [child.path for child in pool.snapshot().children] == ["p"]


async def test_a_task_that_is_done_before_it_is_ready_has_started_well() -> None:
    async def run(child: Child) -> None:
        await trio.lowlevel.checkpoint()

    pool = DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start_child(ChildSpec(name="a", run=run, restart=Restart.TEMPORARY))
            assert pool.snapshot().children == ()


async def test_a_failure_right_after_ready_is_no_failed_start() -> None:
    async def run(child: Child) -> None:
        child.ready()
        raise Boom("right after")

    pool = DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            for number in range(20):  # whoever Trio lets run first
                await pool.start_child(ChildSpec(name=f"c{number}", run=run, restart=Restart.TEMPORARY))
            await settled()
            assert pool.snapshot().children == ()


async def test_escalation_ends_the_pool() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=Intensity(1, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, pool, TooManyRestarts)
            await pool.start_child(stage.spec("a"))
            await pool.start_child(stage.spec("b"))
            stage["a"].fail()
            await settled()
            stage["b"].fail()
    assert stage.up() == set()


async def test_max_children_counts_those_in_backoff_and_those_stopping(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", max_children=2, intensity=SELDOM)
    async with open_tree(pool):
        await pool.start_child(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        await pool.start_child(stage.spec("b"))
        stage["a"].fail()
        stage["b"].stop_s = 2.0
        await settled()
        pool.stop_child("b")
        with pytest.raises(TooManyChildren):
            await pool.start_child(stage.spec("c"))
        await trio.sleep(3)
        await pool.start_child(stage.spec("c"))
        assert stage.up() == {"c"}


async def test_a_pool_of_one() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", max_children=1)
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start_child(stage.spec("a"))
            with pytest.raises(TooManyChildren):
                await pool.start_child(stage.spec("b"))


async def test_a_name_in_use_and_a_significant_child_are_refused(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        await pool.start_child(stage.spec("a"))
        stage["a"].stop_s = 1.0
        pool.stop_child("a")
        with pytest.raises(SpecError, match="already"):  # still stopping: never two incarnations of one name
            await pool.start_child(stage.spec("a"))
        with pytest.raises(SpecError, match="significant"):
            await pool.start_child(stage.spec("s", restart=Restart.TEMPORARY, significant=True))


async def test_not_running() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with pytest.raises(NotRunning):
        await pool.start_child(stage.spec("a"))
    with trio.fail_after(5):
        async with open_tree(pool):
            pool.stop()
            with pytest.raises(NotRunning):
                await pool.start_child(stage.spec("a"))
    with pytest.raises(NotRunning):
        await pool.terminate_child("a")


async def test_a_cancelled_start_child_leaves_no_child(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a", shutdown_s=1.0)
        stage["a"].hangs_in_start = True
        with trio.move_on_after(3) as scope:
            await pool.start_child(spec)
        assert scope.cancelled_caught
        await trio.sleep(2)
        assert stage.up() == set()
        assert pool.snapshot().children == ()


async def test_a_start_that_is_stopped_meanwhile_is_told(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool), trio.open_nursery() as nursery:
        spec = stage.spec("a", shutdown_s=1.0)
        stage["a"].hangs_in_start = True

        async def start() -> None:
            with pytest.raises(StartFailed):
                await pool.start_child(spec)

        nursery.start_soon(start)
        await trio.sleep(1)
        await pool.terminate_child("a")


async def test_a_start_that_is_stopped_before_its_turn_is_told() -> None:
    """Trio shuffles who runs first, hence the rounds: in some of them the stop comes before the supervisor's step."""
    stage, pool = Stage(), DynamicSupervisor("pool")

    async def start() -> None:
        with pytest.raises(StartFailed):
            await pool.start_child(spec)

    with trio.fail_after(5):
        async with open_tree(pool):
            for _ in range(20):
                spec = stage.spec("a", shutdown_s=0)
                stage["a"].hangs_in_start = True
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start)
                    while not pool.snapshot().children:
                        await trio.lowlevel.checkpoint()
                    pool.stop_child("a")
    assert stage.up() == set()


async def test_a_start_in_the_moment_in_which_the_pool_stops_is_told() -> None:
    """As above: in some of the rounds the stop comes before the child's turn."""
    stage = Stage()

    async def start(pool: DynamicSupervisor) -> None:
        spec = stage.spec("a", shutdown_s=0)
        stage["a"].hangs_in_start = True
        with pytest.raises(StartFailed):
            await pool.start_child(spec)

    with trio.fail_after(5):
        for _ in range(20):
            pool = DynamicSupervisor("pool")
            async with open_tree(pool), trio.open_nursery() as nursery:
                nursery.start_soon(start, pool)
                while not pool.snapshot().children:
                    await trio.lowlevel.checkpoint()
                pool.stop()
    assert stage.up() == set()


async def test_terminate_child_that_is_in_backoff(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=SELDOM)
    async with open_tree(pool):
        await pool.start_child(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        stage["a"].fail()
        await settled()
        await pool.terminate_child("a")
        assert pool.snapshot().children == ()
        await trio.sleep(20)
        assert stage["a"].lives == 1
        with pytest.raises(NoSuchChild):
            pool.stop_child("a")


async def test_who_is_being_removed_cannot_be_asked_back(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(Supervisor("app", [pool])) as root:
        await pool.start_child(stage.spec("a"))
        stage["a"].stop_s = 1.0
        root.stop_child("pool/a")
        for _ in range(2):
            with pytest.raises(NoSuchChild, match="pool/a"):
                root.restart_child("pool/a")
            await settled()
        await root.terminate_child("pool/a")
        await settled()
        assert pool.snapshot().children == ()
        await pool.start_child(stage.spec("a"))
        root.restart_child("pool/a")  # it is up: left alone
    assert stage.take_log() == "+a -a +a -a"


async def test_who_is_up_or_in_backoff_can_be_asked_back(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=SELDOM)
    async with open_tree(pool):
        await pool.start_child(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        stage["a"].fail()
        await settled()
        pool.restart_child("a")
        await settled()
        assert stage.up() == {"a"}
        assert trio.current_time() == 0.0


async def test_a_restarted_pool_is_empty() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        root = Supervisor("app", [ChildSpec(child=pool, backoff=Backoff(0, 0))])
        async with open_tree(root):
            await pool.start_child(stage.spec("a"))
            root.kill("pool")
            await settled()
            assert stage.up() == set()
            assert pool.snapshot().children == ()
            assert root.snapshot().children[0].state is State.RUNNING
            assert await pool.start_child(stage.spec("a")) == "pool/a"


async def test_whole_trees_come_and_go() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start_child(ChildSpec(child=Supervisor("s", [stage.spec("a"), stage.spec("b")])))
            pool.kill("s/a")
            await settled()
            await pool.terminate_child("s")
    assert stage.take_log() == "+a +b -a +a -b -a"


async def test_graces_of_different_lengths_end_each_at_its_own_time(autojump_clock: MockClock) -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool", observers=[stage.observe])
    async with open_tree(pool):
        for name, grace_s in (("a", 1.0), ("b", 5.0)):
            await pool.start_child(stage.spec(name, shutdown_s=grace_s))
            stage[name].deaf = True
    ends = {event.path: event.at for event in stage.events if event.kind == "cancelled"}
    assert ends == {"a": 1.0, "b": 5.0}


async def test_thousands_of_children() -> None:
    pool, up = DynamicSupervisor("pool"), 0

    async def run(child: Child) -> None:
        nonlocal up
        up += 1
        await child.stopping.wait()
        up -= 1

    with trio.fail_after(60):
        async with open_tree(pool):
            for number in range(2_000):
                await pool.start_child(ChildSpec(name=f"c{number}", run=run, ready_on_start=True))
            assert up == 2_000
    assert up == 0
