from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Child,
    Event,
    EventKind,
    Node,
    Restart,
    StartFailed,
    State,
    SupervisionError,
    Supervisor,
    Worker,
    open_tree,
)

from .probes import PLENTY, Boom, Stage, observed, run_expecting, settled


async def test_an_empty_supervisor_starts_and_stops() -> None:
    with trio.fail_after(5):
        async with open_tree(Supervisor("app")) as root:
            assert root.snapshot().state is State.RUNNING
        assert root.snapshot().state is State.STOPPED


async def test_start_left_to_right_each_ready_before_the_next(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b"), stage.spec("c")])
    stage["a"].start_s = stage["b"].start_s = 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await settled()
        assert stage.take_log() == "+a"
        await trio.sleep(1.5)
        assert stage.take_log() == "+b"
        assert [child.state for child in root.snapshot().children] == [State.RUNNING, State.STARTING, State.WAITING]
        await trio.sleep(1)
        assert stage.take_log() == "+c"
        root.stop()
    assert stage.take_log() == "-c -b -a"


async def test_started_is_reported_when_all_are_ready_down_to_the_leaves(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [Supervisor("s", [stage.spec("a"), stage.spec("b")]), stage.spec("c")])
    stage["b"].start_s = 2.0
    async with open_tree(root):
        assert trio.current_time() == 2.0
        assert stage.take_log() == "+a +b +c"


async def test_initial_failure_stops_what_was_started_in_reverse() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec(name) for name in "abcd"], intensity=PLENTY)
    stage["c"].failing_starts = 1
    with trio.fail_after(5), pytest.raises(StartFailed, match="c failed to start") as caught:
        await root.run()
    assert isinstance(caught.value.__cause__, Boom)
    assert stage.take_log() == "+a +b +c -c -b -a"
    assert [child.state for child in root.snapshot().children] == ["stopped", "stopped", "failed", "stopped"]
    assert root.snapshot().state is State.FAILED


@pytest.mark.parametrize("restart", [*Restart])
async def test_initial_failure_whatever_the_restart_type(restart: Restart) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", restart=restart)])
    stage["a"].failing_starts = 1
    with trio.fail_after(5), pytest.raises(StartFailed):
        await root.run()
    assert stage["a"].lives == 1


async def test_initial_failure_below_fails_the_start_above() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), Supervisor("s", [stage.spec("b"), stage.spec("c")])])
    stage["c"].failing_starts = 1
    with trio.fail_after(5), pytest.raises(StartFailed, match="s failed to start") as caught:
        await root.run()
    assert isinstance(caught.value.__cause__, StartFailed)
    assert caught.value.__cause__.path == "s/c"
    assert stage.take_log() == "+a +b +c -c -b -a"


async def test_start_timeout_is_an_initial_failure(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b", start_timeout_s=7.0)])
    stage["b"].hangs_in_start = True
    with pytest.raises(StartFailed) as caught:
        await root.run()
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert trio.current_time() == 7.0
    assert stage.take_log() == "+a +b -b -a"


async def test_ready_after_the_start_timeout_is_too_late(autojump_clock: MockClock) -> None:
    async def run(child: Child[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            child.started()

    with pytest.raises(StartFailed) as caught:
        await Supervisor("app", [Worker("a", run, start_timeout_s=1.0)]).run()
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_kill_during_the_clean_up_after_a_start_timeout_changes_nothing(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a", start_timeout_s=1.0)]), stage.observe)
    stage["a"].hangs_in_start = True
    stage["a"].clean_up_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_expecting, root, StartFailed)
        await trio.sleep(2)
        assert root.find("a").kill()
    assert root.snapshot().children[0].last_failure == "TimeoutError: a had not started within 1 s"
    assert stage.kinds("a") == ["starting", "cancelled", "failed"]


async def test_a_start_timeout_during_the_clean_up_after_a_kill_changes_nothing(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a", start_timeout_s=2.0)]), stage.observe)
    stage["a"].hangs_in_start = True
    stage["a"].clean_up_s = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_expecting, root, StartFailed)
        await trio.sleep(1)
        root.find("a").kill()
    assert root.snapshot().children[0].last_failure == "Killed: a was killed"
    assert stage.kinds("a") == ["starting", "cancelled", "failed"]


async def test_the_start_timeout_of_a_child_that_is_ready_does_not_matter(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(observed(Supervisor("app", [stage.spec("a", start_timeout_s=1.0)]), stage.observe)):
        await trio.sleep(10)
        assert stage.kinds("a") == ["starting", "started"]


async def test_the_start_timeout_of_a_child_that_is_gone_does_not_matter(autojump_clock: MockClock) -> None:
    async def run(child: Child[None]) -> None:
        await trio.lowlevel.checkpoint()

    stage = Stage()
    done = Worker("a", run, restart=Restart.TRANSIENT, start_timeout_s=1.0)
    async with open_tree(observed(Supervisor("app", [done, stage.spec("b")]), stage.observe)) as root:
        await trio.sleep(2)
        root.find("b").restart()  # it looks at its children
        await settled()
        assert stage.kinds("a") == ["starting", "returned"]


async def test_a_permanent_child_that_returns_before_it_is_ready_failed_to_start() -> None:
    async def run(child: Child[None]) -> None:
        await trio.lowlevel.checkpoint()

    with trio.fail_after(5), pytest.raises(StartFailed) as caught:
        await Supervisor("app", [Worker("a", run)]).run()
    assert isinstance(caught.value.__cause__, SupervisionError)
    assert "before it had started" in str(caught.value.__cause__)


async def test_waits_for_a_start_that_fails_raise_its_cause() -> None:
    stage = Stage()
    a = stage.spec("a")
    inner = Supervisor("s", [a])
    root = Supervisor("app", [inner])
    raised: list[StartFailed] = []

    async def wait(node: Node[None]) -> None:
        with pytest.raises(StartFailed) as caught:
            await node.wait_started()
        raised.append(caught.value)

    def wait_for_all(event: Event) -> None:
        if event.path == "s/a" and event.kind is EventKind.STARTING and event.incarnation == 2:
            for node in (a, inner, root):
                nursery.start_soon(wait, node)

    root.observe(wait_for_all)
    with trio.fail_after(5):
        async with open_tree(root):  # an earlier run does not matter
            pass
        stage["a"].failing_starts = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_expecting, root, StartFailed)
    causes = {error.path: str(error.__cause__) for error in raised}
    assert causes == {"s/a": "a does not start", "s": "s/a failed to start", "/": "s failed to start"}
    with pytest.raises(StartFailed, match="/ failed to start"):  # also afterwards
        await root.wait_started()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_others_may_return_before_they_are_ready(restart: Restart) -> None:
    stage = Stage()

    async def run(child: Child[None]) -> None:
        stage.log.append("once")

    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [Worker("a", run, restart=restart), stage.spec("b")])) as root:
            assert root.snapshot().children[0].state is State.FINISHED
            assert stage.take_log() == "once +b"


async def test_a_crash_while_others_start_is_a_restart_not_an_initial_failure(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")])
    stage["b"].start_s = 5.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await settled()
        stage["a"].fail()
        await settled()
        assert stage.take_log() == "+a +b -a +a"
        await trio.sleep(6)
        assert root.snapshot().state is State.RUNNING
        root.stop()
    assert stage.take_log() == "-b -a"
