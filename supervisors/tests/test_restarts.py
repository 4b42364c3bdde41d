"""OTP's matrix: restart type × the way a child ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    AutoShutdown,
    Backoff,
    Child,
    Intensity,
    Restart,
    StartFailed,
    State,
    SupervisionError,
    Supervisor,
    TooManyRestarts,
    Worker,
    open_tree,
)

from .probes import NO_BACKOFF, SELDOM, Boom, Stage, leak_a_cancelled, observed, run_expecting, settled


async def returns() -> None:
    pass


async def raises() -> None:
    raise Boom("raises")


async def raises_a_group() -> None:
    raise ExceptionGroup("two at once", [Boom("one"), OSError("two")])


async def cancels_a_scope_of_its_own() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.sleep_forever()


async def group_with_a_leaked_cancelled() -> None:
    try:
        await leak_a_cancelled()
    except trio.Cancelled as exc:
        raise BaseExceptionGroup("mixed", [exc, Boom("mixed")]) from None


WAYS: dict[str, tuple[Callable[[], Awaitable[None]], bool]] = {
    "returns": (returns, False),
    "raises": (raises, True),
    "raises a group": (raises_a_group, True),
    "cancels a scope of its own": (cancels_a_scope_of_its_own, False),
    "leaks a Cancelled": (leak_a_cancelled, True),
    "leaks a Cancelled in a group": (group_with_a_leaked_cancelled, True),
    "is killed": (trio.sleep_forever, True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("restart", [*Restart])
async def test_restart_type_and_exit(restart: Restart, way: str) -> None:
    end, abnormal = WAYS[way]
    go, lives = trio.Event(), 0

    async def run(child: Child[None]) -> None:
        nonlocal lives
        lives += 1
        child.started()
        if lives > 1:
            await child.stopping.wait()
        else:
            await go.wait()
            await end()

    stage = Stage()
    spec = Worker("a", run, restart=restart, backoff=NO_BACKOFF)
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("left"), spec, stage.spec("right")])) as root:
            go.set()
            if way == "is killed":
                assert root.find("a").kill()
            await settled()
            again = restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and abnormal)
            assert lives == (2 if again else 1)
            node = root.snapshot().children[1]
            expected = State.RUNNING if again else State.FAILED if abnormal else State.FINISHED
            assert node.state is expected
            assert (node.last_failure is not None) is (abnormal or restart is Restart.PERMANENT)
            assert stage.take_log() == "+left +right"


@pytest.mark.parametrize("restart", [*Restart])
async def test_stopped_by_hand_stays_down_whatever_the_restart_type(restart: Restart) -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a", restart=restart), stage.spec("b")])) as root:
            root.find("a").stop()
            await settled()
            assert stage.take_log() == "+a +b -a"
            assert root.snapshot().children[0].state is State.STOPPED


async def test_the_group_that_a_child_raised_is_kept_whole() -> None:
    group = ExceptionGroup("two at once", [Boom("one"), OSError("two")])
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")], intensity=Intensity(0)), stage.observe)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, TooManyRestarts, group)
        stage["a"].fail(group)
    assert [event.error for event in stage.events if event.path == "a"][-1] is group
    assert root.snapshot().children[0].last_failure == "ExceptionGroup: two at once [Boom: one; OSError: two]"


async def test_one_restart_too_many_escalates(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")], intensity=Intensity(2, 10)), stage.observe)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, TooManyRestarts)
        for _ in range(3):
            assert root.snapshot().state is State.RUNNING
            await trio.sleep(3)
            stage["b"].fail()
    assert stage.take_log() == "+a +b -b +b -b +b -b -a"
    assert root.snapshot().state is State.FAILED
    assert stage.kinds("/") == ["starting", "started", "escalated", "stopping", "failed"]
    (escalated,) = [event for event in stage.events if event.kind == "escalated"]
    assert isinstance(escalated.error, TooManyRestarts)
    assert escalated.at == 9.0


async def test_failures_that_are_far_enough_apart_do_not_escalate(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a")], intensity=Intensity(2, 10))):
        for _ in range(30):
            stage["a"].fail()
            await trio.sleep(5.1)
        assert stage["a"].lives == 31


async def test_the_window_is_that_of_the_supervisor_not_of_a_child() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b"), stage.spec("c")], intensity=Intensity(2, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            for name in "abc":
                stage[name].fail()
                await settled()
    assert stage.take_log() == "+a +b +c -a +a -b +b -c -b -a"


async def test_failed_restarts_count_and_are_tried_again() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], intensity=Intensity(4, 10))
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].failing_starts = 3
            stage["a"].fail()
            await settled()
            assert stage["a"].lives == 5
            assert root.snapshot().children[0].state is State.RUNNING


async def test_failed_restarts_escalate() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], intensity=Intensity(4, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            stage["a"].failing_starts = 100
            stage["a"].fail()
    assert stage["a"].lives == 5


async def test_a_hanging_restart_times_out_and_is_tried_again(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(Supervisor("app", [stage.spec("a", start_timeout_s=10.0)])) as root:
        stage["a"].hangs_in_start = True
        stage["a"].fail()
        await trio.sleep(5)
        stage["a"].hangs_in_start = False
        assert root.snapshot().children[0].state is State.STARTING
        await trio.sleep(6)
        assert root.snapshot().children[0].state is State.RUNNING
        assert "had not started within 10 s" in (root.snapshot().children[0].last_failure or "")
        assert stage["a"].lives == 3


async def test_escalation_below_is_a_crash_above() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c")], intensity=Intensity(1, 10))
    root = observed(Supervisor("app", [stage.spec("a"), inner], backoff=NO_BACKOFF), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["c"].fail()
            await settled()
            stage["c"].fail()
            await settled()
            assert stage.take_log() == "+a +b +c -c +c -c -b +b +c"
            node = root.snapshot().children[1]
            assert (node.incarnation, node.state) == (2, State.RUNNING)
            assert node.last_failure == "TooManyRestarts: inner: more than 1 restarts within 10 s, the last for inner/c"
            assert [child.incarnation for child in node.children] == [2, 3]
            assert node.children[1].last_failure == "Boom: c"
    assert stage.kinds("inner")[:4] == ["starting", "started", "escalated", "stopping"]


async def test_a_nested_supervisor_counts_its_own_incarnations() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b")], intensity=Intensity(0, 10))
    root = observed(Supervisor("app", [inner], backoff=NO_BACKOFF), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["b"].fail()
            await settled()
            assert inner.snapshot().incarnation == 2
            assert root.snapshot().incarnation == 1
            stage["b"].fail()
            await settled()
    assert [event.incarnation for event in stage.events if event.kind == "escalated"] == [1, 2]


async def test_escalation_goes_up_to_the_root() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b")], intensity=Intensity(1, 10))
    root = Supervisor("app", [stage.spec("a"), inner], backoff=NO_BACKOFF, intensity=Intensity(1, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            for _ in range(3):  # the second failure ends the inner supervisor, and so does the third: both count
                stage["b"].fail()
                await settled()
    assert stage["b"].lives == 3
    assert stage.take_log().endswith("-b -a")


async def test_restart_waits_for_its_backoff_and_each_failure_makes_it_longer(autojump_clock: MockClock) -> None:
    stage = Stage()
    backoff = Backoff(first_s=1, max_s=5, factor=2, jitter=0, healthy_after_s=30)
    root = observed(Supervisor("app", [stage.spec("a", backoff=backoff)], intensity=Intensity(9, 1_000)), stage.observe)
    async with open_tree(root):
        for _ in range(5):
            stage["a"].fail()
            await trio.sleep(8)
    delays = [event.delay_s for event in stage.events if event.kind == "backoff"]
    assert delays == [1, 2, 4, 5, 5]
    starts = [event.at for event in stage.events if event.path == "a" and event.kind == "starting"]
    assert starts == [0, 1, 10, 20, 29, 37]


async def test_backoff_starts_over_after_health(autojump_clock: MockClock) -> None:
    stage = Stage()
    backoff = Backoff(first_s=1, max_s=60, factor=10, jitter=0, healthy_after_s=30)
    async with open_tree(
        observed(Supervisor("app", [stage.spec("a", backoff=backoff)], intensity=SELDOM), stage.observe)
    ):
        stage["a"].fail()
        await trio.sleep(30.5)  # 1 s of backoff, 29.5 s of running: not yet healthy
        stage["a"].fail()
        await trio.sleep(40)  # 10 s and 30 s: healthy
        stage["a"].fail()
        await trio.sleep(10)
    assert [event.delay_s for event in stage.events if event.kind == "backoff"] == [1, 10, 1]


async def test_a_long_start_is_no_health(autojump_clock: MockClock) -> None:
    stage = Stage()
    backoff = Backoff(first_s=1, max_s=60, factor=10, jitter=0, healthy_after_s=3)
    spec = stage.spec("a", backoff=backoff, start_timeout_s=5.0)
    async with open_tree(observed(Supervisor("app", [spec], intensity=Intensity(9, 1_000)), stage.observe)):
        stage["a"].hangs_in_start = True
        stage["a"].fail()
        await trio.sleep(20)
        stage["a"].hangs_in_start = False
        await trio.sleep(20)
    assert [event.delay_s for event in stage.events if event.kind == "backoff"] == [1, 10, 60]


async def test_ready_of_a_former_incarnation_says_nothing_of_this_one() -> None:
    handles: list[Child[None]] = []

    async def run(child: Child[None]) -> None:
        handles.append(child)
        if len(handles) == 1:
            child.started()
        if len(handles) <= 2:
            raise Boom("twice")
        await child.stopping.wait()

    root = Supervisor("app", [Worker("a", run, backoff=NO_BACKOFF)])
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(root.run)
            await settled()
            handles[1].started()
            assert root.snapshot().children[0].state is State.STARTING
            handles[2].started()
            assert root.snapshot().children[0].state is State.RUNNING
            root.stop()


async def test_jitter_shortens_a_delay_at_random(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.5)
    stage = Stage()
    backoff = Backoff(first_s=4, max_s=30, jitter=0.5)
    root = observed(Supervisor("app", [stage.spec("a", backoff=backoff)], intensity=SELDOM), stage.observe)
    async with open_tree(root):
        stage["a"].fail()
        await trio.sleep(5)
    assert [event.delay_s for event in stage.events if event.kind == "backoff"] == [3.0]


async def test_a_child_in_backoff_keeps_nobody_else_waiting(autojump_clock: MockClock) -> None:
    stage = Stage()
    slow = stage.spec("a", backoff=Backoff(first_s=20, max_s=30, jitter=0))
    root = Supervisor("app", [slow, stage.spec("b")], intensity=SELDOM)
    async with open_tree(root):
        stage["a"].fail()
        await settled()
        stage["b"].fail()
        await settled()
        assert stage.take_log() == "+a +b -a -b +b"
        await trio.sleep(21)
        assert stage.take_log() == "+a"


async def test_a_permanent_child_that_returns_has_failed() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")], intensity=Intensity(0)), stage.observe)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            stage["a"].finish()
    assert [type(event.error) for event in stage.events if event.kind == "failed" and event.path == "a"] == [
        SupervisionError
    ]


@pytest.mark.parametrize(("auto_shutdown", "ends_with"), [("any_significant", "a"), ("all_significant", "b")])
async def test_auto_shutdown(auto_shutdown: str, ends_with: str) -> None:
    stage = Stage()
    specs = [
        stage.spec("x"),
        stage.spec("a", restart=Restart.TRANSIENT, significant=True),
        stage.spec("b", restart=Restart.TEMPORARY, significant=True),
        stage.spec("y", restart=Restart.TEMPORARY),
    ]
    root = Supervisor("app", specs, auto_shutdown=AutoShutdown(auto_shutdown))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            stage["y"].finish()
            await settled()
            stage["a"].fail()  # transient: comes back, has not ended for good
            await settled()
            assert stage.take_log() == "+x +a +b +y -y -a +a"
            stage["a"].finish()
            await settled()
            assert (root.snapshot().state is State.STOPPED) is (ends_with == "a")
            stage["b"].fail()  # temporary: a failure is an end too
    assert stage.take_log() == "-a -b -x"
    assert root.snapshot().state is State.STOPPED


async def test_stopping_a_significant_child_by_hand_is_no_end_of_its_own() -> None:
    stage = Stage()
    spec = stage.spec("a", restart=Restart.TRANSIENT, significant=True)
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [spec], auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)) as root:
            root.find("a").stop()
            await settled()
            assert root.snapshot().state is State.RUNNING


async def test_auto_shutdown_below_is_a_normal_return_above() -> None:
    stage = Stage()
    inner = Supervisor(
        "inner",
        [stage.spec("a", restart=Restart.TRANSIENT, significant=True), stage.spec("b")],
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
        restart=Restart.TRANSIENT,
    )
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [inner], backoff=NO_BACKOFF)) as root:
            stage["a"].finish()
            await settled()
            assert root.snapshot().children[0].state is State.FINISHED
            assert stage.up() == set()


async def test_a_permanent_child_that_returns_has_failed_with_that_as_its_text() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], backoff=NO_BACKOFF)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].finish()
            await settled()
            assert root.children[0].snapshot().last_failure == "SupervisionError: a returned"


async def test_a_child_that_has_nothing_to_run_and_fails_has_failed() -> None:
    async def run(child: Child[None]) -> None:
        child.ignore()
        raise Boom("no")

    async with open_tree(Supervisor("app")) as root:
        with pytest.raises(StartFailed):
            await root.start(Worker("a", run))
