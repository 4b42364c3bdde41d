from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from supervisors import (
    Backoff,
    Child,
    DynamicSupervisor,
    Intensity,
    NotRunning,
    Restart,
    SpecError,
    StartFailed,
    State,
    Supervisor,
    TaskFailed,
    TooManyChildren,
    TooManyRestarts,
    Worker,
    open_tree,
)

from .probes import NO_BACKOFF, PLENTY, SELDOM, Boom, Stage, observed, run_expecting, settled, terminate


async def test_children_come_and_go() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start(stage.spec("a"))
            await pool.start(stage.spec("b"))
            assert [child.path for child in pool.snapshot().children] == ["a", "b"]
            await terminate(pool, "a")
            assert stage.up() == {"b"}
            assert [child.path for child in pool.snapshot().children] == ["b"]
            await pool.start(stage.spec("a"))
            assert stage.up() == {"a", "b"}
    assert stage.up() == set()


async def test_below_a_root_its_paths_go_on() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [pool])) as root:
            await pool.start(stage.spec("a"))
            assert [node.path for node in pool.snapshot().walk()] == ["pool", "pool/a"]
            root.find("pool/a").stop()
            await settled()
            assert pool.snapshot().children == ()


async def test_start_child_waits_for_ready(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a")
        stage["a"].start_s = 4.0
        await pool.start(spec)
        assert trio.current_time() == 4.0


async def test_a_failed_start_is_told_and_neither_kept_nor_counted() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=Intensity(0))
    with trio.fail_after(5):
        async with open_tree(pool):
            spec = stage.spec("a")
            for _ in range(3):
                stage["a"].failing_starts = 1
                with pytest.raises(StartFailed) as caught:
                    await pool.start(spec)
                assert isinstance(caught.value.__cause__, Boom)
            assert pool.snapshot().children == ()
            await pool.start(spec)
            assert stage["a"].lives == 4


async def test_a_hanging_start_is_cancelled_and_told(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a", start_timeout_s=2.0)
        stage["a"].hangs_in_start = True
        with pytest.raises(StartFailed) as caught:
            await pool.start(spec)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert trio.current_time() == 2.0
        assert stage.up() == set()


async def test_an_ended_child_is_forgotten_and_a_failed_one_restarted() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=PLENTY)
    with trio.fail_after(5):
        async with open_tree(pool):
            for name, restart in (("p", Restart.PERMANENT), ("r", Restart.TRANSIENT), ("t", Restart.TEMPORARY)):
                await pool.start(stage.spec(name, restart=restart))
            stage.take_log()
            for name in "prt":
                stage[name].fail()
            await settled()
            assert stage.up() == {"p", "r"}
            assert [child.path for child in pool.snapshot().children] == ["p", "r"]
            stage["r"].finish()
            await settled()
            assert [child.path for child in pool.snapshot().children] == ["p"]


async def test_a_child_that_returns_before_it_has_started_has_no_value() -> None:
    async def run(child: Child[None]) -> None:
        await trio.lowlevel.checkpoint()

    pool = DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            with pytest.raises(NotRunning, match="a is finished"):
                await pool.start(Worker("a", run, restart=Restart.TEMPORARY))
            assert pool.snapshot().children == ()


async def test_a_failure_right_after_ready_is_no_failed_start() -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        raise Boom("right after")

    pool = DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            for number in range(20):  # whoever Trio lets run first
                await pool.start(Worker(f"c{number}", run, restart=Restart.TEMPORARY))
            await settled()
            assert pool.snapshot().children == ()


async def test_escalation_ends_the_pool() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=Intensity(1, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, pool, TooManyRestarts)
            await pool.start(stage.spec("a"))
            await pool.start(stage.spec("b"))
            stage["a"].fail()
            await settled()
            stage["b"].fail()
    assert stage.up() == set()


async def test_max_children_counts_those_in_backoff_and_those_stopping(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", max_children=2, intensity=SELDOM)
    async with open_tree(pool):
        await pool.start(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        await pool.start(stage.spec("b"))
        stage["a"].fail()
        stage["b"].stop_s = 2.0
        await settled()
        pool.find("b").stop()
        with pytest.raises(TooManyChildren):
            await pool.start(stage.spec("c"))
        await trio.sleep(3)
        await pool.start(stage.spec("c"))
        assert stage.up() == {"c"}


async def test_a_pool_of_one() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", max_children=1)
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start(stage.spec("a"))
            with pytest.raises(TooManyChildren):
                await pool.start(stage.spec("b"))


async def test_a_name_in_use_and_a_significant_child_are_refused(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        await pool.start(stage.spec("a"))
        stage["a"].stop_s = 1.0
        pool.find("a").stop()
        with pytest.raises(SpecError, match="two children with the name 'a'"):  # never two of one name
            await pool.start(stage.spec("a"))
        with pytest.raises(SpecError, match="significant"):
            await pool.start(stage.spec("s", restart=Restart.TEMPORARY, significant=True))


async def test_not_running() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with pytest.raises(NotRunning):
        await pool.start(stage.spec("a"))
    with trio.fail_after(5):
        async with open_tree(pool):
            pool.stop()
            with pytest.raises(NotRunning):
                await pool.start(stage.spec("a"))
    with pytest.raises(LookupError):
        await terminate(pool, "a")


async def test_a_cancelled_start_child_leaves_no_child(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool):
        spec = stage.spec("a", grace_s=1.0)
        stage["a"].hangs_in_start = True
        with trio.move_on_after(3) as scope:
            await pool.start(spec)
        assert scope.cancelled_caught
        await trio.sleep(2)
        assert stage.up() == set()
        assert pool.snapshot().children == ()


async def test_a_start_that_is_stopped_meanwhile_is_told(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(pool), trio.open_nursery() as nursery:
        spec = stage.spec("a", grace_s=1.0)
        stage["a"].hangs_in_start = True

        async def start() -> None:
            with pytest.raises(NotRunning):
                await pool.start(spec)

        nursery.start_soon(start)
        await trio.sleep(1)
        await terminate(pool, "a")


async def test_a_start_that_is_stopped_before_its_turn_is_told() -> None:
    """Trio shuffles who runs first, hence the rounds: in some of them the stop comes before the supervisor's step."""
    stage, pool = Stage(), DynamicSupervisor("pool")

    async def start() -> None:
        with pytest.raises(NotRunning):
            await pool.start(spec)

    with trio.fail_after(5):
        async with open_tree(pool):
            for _ in range(20):
                spec = stage.spec("a", grace_s=0)
                stage["a"].hangs_in_start = True
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(start)
                    while not pool.snapshot().children:
                        await trio.lowlevel.checkpoint()
                    pool.find("a").stop()
    assert stage.up() == set()


async def test_a_start_in_the_moment_in_which_the_pool_stops_is_told() -> None:
    """As above: in some of the rounds the stop comes before the child's turn."""
    stage = Stage()

    async def start(pool: DynamicSupervisor) -> None:
        spec = stage.spec("a", grace_s=0)
        stage["a"].hangs_in_start = True
        with pytest.raises(NotRunning):
            await pool.start(spec)

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
        await pool.start(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        stage["a"].fail()
        await settled()
        await terminate(pool, "a")
        assert pool.snapshot().children == ()
        await trio.sleep(20)
        assert stage["a"].lives == 1
        with pytest.raises(LookupError):
            pool.find("a").stop()


async def test_who_is_being_removed_cannot_be_asked_back(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    async with open_tree(Supervisor("app", [pool])) as root:
        await pool.start(stage.spec("a"))
        stage["a"].stop_s = 1.0
        removed = root.find("pool/a")
        removed.stop()
        for _ in range(2):
            with pytest.raises(NotRunning, match="pool/a"):
                removed.restart()
            await settled()
        await removed.wait_down()
        assert pool.snapshot().children == ()
        with pytest.raises(NotRunning):
            removed.restart()
        await pool.start(stage.spec("a"))
    assert stage.take_log() == "+a -a +a -a"


async def test_who_is_up_or_in_backoff_can_be_asked_back(autojump_clock: MockClock) -> None:
    stage, pool = Stage(), DynamicSupervisor("pool", intensity=SELDOM)
    async with open_tree(pool):
        await pool.start(stage.spec("a", backoff=Backoff(first_s=10, max_s=30, jitter=0)))
        stage["a"].fail()
        await settled()
        pool.find("a").restart()
        await settled()
        assert stage.up() == {"a"}
        assert trio.current_time() == 0.0


async def test_a_restarted_pool_is_empty() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        root = Supervisor("app", [pool], backoff=NO_BACKOFF)
        async with open_tree(root):
            await pool.start(stage.spec("a"))
            root.find("pool").kill()
            await settled()
            assert stage.up() == set()
            assert pool.snapshot().children == ()
            assert root.snapshot().children[0].state is State.RUNNING
            await pool.start(stage.spec("a"))


async def test_whole_trees_come_and_go() -> None:
    stage, pool = Stage(), DynamicSupervisor("pool")
    with trio.fail_after(5):
        async with open_tree(pool):
            await pool.start(Supervisor("s", [stage.spec("a"), stage.spec("b")]))
            pool.find("s/a").kill()
            await settled()
            await terminate(pool, "s")
    assert stage.take_log() == "+a +b -a +a -b -a"


async def test_graces_of_different_lengths_end_each_at_its_own_time(autojump_clock: MockClock) -> None:
    stage = Stage()
    pool = observed(DynamicSupervisor("pool"), stage.observe)
    async with open_tree(pool):
        for name, grace_s in (("a", 1.0), ("b", 5.0)):
            await pool.start(stage.spec(name, grace_s=grace_s))
            stage[name].deaf = True
    ends = {event.path: event.at for event in stage.events if event.kind == "cancelled"}
    assert ends == {"a": 1.0, "b": 5.0}


async def test_thousands_of_children() -> None:
    pool, up = DynamicSupervisor("pool"), 0

    async def run(child: Child[None]) -> None:
        nonlocal up
        up += 1
        child.started()
        await child.stopping.wait()
        up -= 1

    with trio.fail_after(60):
        async with open_tree(pool):
            for number in range(2_000):
                await pool.start(Worker(f"c{number}", run))
            assert up == 2_000
    assert up == 0


async def test_texts_of_tasks_without_a_result() -> None:
    async def clean_up_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clean-up")

    async with open_tree(DynamicSupervisor("pool")) as pool:
        task = pool.start_task(trio.sleep_forever)
        task.stop()
        with pytest.raises(TaskFailed, match=r"^task-1 was stopped$"):
            await task.result()
        failed: list[TaskFailed] = []

        async def call() -> None:
            try:
                await pool.call(clean_up_badly)
            except TaskFailed as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert [str(error) for error in failed] == ["task-2 failed"]


async def test_the_result_of_a_task_that_has_ended_is_a_checkpoint() -> None:
    async with open_tree(DynamicSupervisor("pool")) as pool:
        task = pool.start_task(trio.sleep, 0)
        await task.result()
        with trio.testing.assert_checkpoints():
            await task.result()


async def test_a_pool_has_its_own_backoff(autojump_clock: MockClock) -> None:
    starts: list[float] = []

    async def crash_once(child: Child[None]) -> None:
        starts.append(trio.current_time())
        child.started()
        if len(starts) == 1:
            raise ValueError("once")
        await child.stopping.wait()

    async with open_tree(
        DynamicSupervisor("pool", backoff=Backoff(first_s=7, max_s=7, jitter=0), intensity=SELDOM)
    ) as pool:
        await pool.start(Worker("a", crash_once))
        await trio.sleep(8)
    assert starts == [0, 7]
