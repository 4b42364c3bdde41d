"""Nothing fails in silence: what is logged, with an observer or without, and what a caller gets."""

from __future__ import annotations

import logging
import signal

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Child,
    DynamicSupervisor,
    EventKind,
    Intensity,
    Shutdown,
    StartFailed,
    State,
    Stuck,
    Supervisor,
    TaskFailed,
    TooManyRestarts,
    Worker,
    nursery_task,
    open_tree,
)

from .probes import NO_BACKOFF, Boom, Stage, leak_a_cancelled, observed, run_expecting, settled


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[tuple[str, str]]:
    """The first line of each message of this level or a higher one, without the error."""
    records = [record for record in caplog.records if record.levelno >= level and record.name == "supervisors.events"]
    return [(record.levelname, record.getMessage().splitlines()[0].split(":")[0]) for record in records]


async def test_failures_are_logged_although_there_is_an_observer(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")], intensity=Intensity(1)), stage.observe)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            for _ in range(2):
                stage["a"].fail()
                await settled()
    assert lines(caplog) == [
        ("ERROR", "a failed"),
        ("WARNING", "a backoff in 0 s"),
        ("ERROR", "a failed"),
        ("ERROR", "/ escalated"),
        ("ERROR", "/ failed (too many restarts of a)"),
    ]
    assert [record.getMessage() for record in caplog.records][1:4] == [
        "a backoff in 0 s",
        "a failed: Boom: a",
        "/ escalated: TooManyRestarts: /: more than 1 restarts within 5 s, the last for a",
    ]
    # The traceback of an error is logged once, with the child that raised it.
    assert [record.exc_info is not None for record in caplog.records] == [True, False, True, False, False]
    assert all(isinstance(event.level, int) for event in stage.events)


async def test_what_goes_well_is_logged_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    with trio.fail_after(5), caplog.at_level(logging.DEBUG, "supervisors"):
        async with open_tree(Supervisor("app", [stage.spec("a")])):
            pass
    assert lines(caplog) == []
    assert lines(caplog, logging.DEBUG)[:2] == [("DEBUG", "/ starting"), ("DEBUG", "a starting")]
    assert ("DEBUG", "a stopped (shutdown)") in lines(caplog, logging.DEBUG)


async def test_events_below_a_supervisor_that_does_nothing_are_delivered_at_once() -> None:
    """A supervisor below restarts its child, which does not wake the root's task."""
    stage = Stage()
    below = Supervisor("below", [stage.spec("a")], backoff=NO_BACKOFF)
    with trio.fail_after(5):
        async with open_tree(observed(Supervisor("app", [below]), stage.observe)):
            await settled()
            stage["a"].fail()
            await settled()
            kinds = [event.kind for event in stage.events if event.path == "below/a"]
            assert kinds[-4:] == [EventKind.FAILED, EventKind.BACKOFF, EventKind.STARTING, EventKind.STARTED]


async def test_an_error_of_a_stop_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")])
    with trio.fail_after(5):
        async with open_tree(root):
            stage["b"].last_words = Boom("could not flush")
    assert lines(caplog) == [("ERROR", "b stopped (shutdown)")]
    assert "Boom: could not flush" in caplog.text
    assert "in _live" in caplog.text
    assert root.state is State.STOPPED


@pytest.mark.parametrize("how", ["shutdown", "cancelled"])
async def test_a_child_that_passes_on_its_stop_has_no_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        if how == "shutdown":
            raise Shutdown("bye")
        await leak_a_cancelled()

    stage = Stage()
    root = observed(Supervisor("app", [Worker("a", run)]), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            pass
    assert lines(caplog) == []
    assert [event.error for event in stage.events if event.kind is EventKind.STOPPED] == [None, None]
    assert root.children[0].snapshot().last_failure is None


async def test_a_child_that_uses_up_its_grace_is_logged_with_its_stack(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def ignores_its_stop(child: Child[None]) -> None:
        child.started()
        await trio.sleep_forever()

    stage = Stage()
    root = observed(Supervisor("app", [Worker("a", ignores_its_stop), stage.spec("b", grace_s=0)]), stage.observe)
    async with open_tree(root):
        stage["b"].deaf = True
    assert trio.current_time() == 5
    assert lines(caplog) == [("WARNING", "a cancelled (it did not stop in time)")]  # b had no grace to use up
    assert "in ignores_its_stop" in caplog.text
    reasons = {event.path: (event.reason, event.stack is None) for event in stage.events if event.kind == "cancelled"}
    assert reasons == {"a": ("it did not stop in time", False), "b": ("shutdown", True)}


async def test_of_many_late_children_only_some_show_their_stack(autojump_clock: MockClock) -> None:
    stage = Stage()
    pool = observed(DynamicSupervisor("pool"), stage.observe)
    async with open_tree(pool):
        for number in range(12):
            await pool.start(stage.spec(f"c{number}", grace_s=1))
            stage[f"c{number}"].deaf = True
    late = [event for event in stage.events if event.kind is EventKind.CANCELLED]
    assert [bool(event.stack) for event in late] == [True] * 10 + [False] * 2
    assert {event.level for event in late} == {logging.WARNING}


async def test_a_late_start_is_logged_with_its_stack(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", start_timeout_s=1.0), stage.spec("b")], intensity=Intensity(3, 100))
    async with open_tree(root):
        stage["a"].hangs_in_start = True
        stage["a"].fail()
        await trio.sleep(0.5)
        stage["a"].hangs_in_start = False
        await trio.sleep(2)
        root.find("b").kill()
        await settled()
    assert ("WARNING", "a cancelled (it did not start in time)") in lines(caplog)
    assert "in _live" in caplog.text


async def test_a_stuck_child_is_an_error_that_shows_where_it_waits(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def flushes_without_end() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)

    async def run(child: Child[None]) -> None:
        child.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flushes_without_end)

    stage = Stage()
    root = observed(Supervisor("app", [Worker("a", run, grace_s=1.0)]), stage.observe)
    async with open_tree(root):
        pass
    assert lines(caplog)[1:] == [("ERROR", "a stuck")]
    assert "in flushes_without_end" in caplog.records[-1].getMessage()
    assert caplog.records[-1].exc_info is None  # nobody raised it
    (stuck,) = [event for event in stage.events if event.kind is EventKind.STUCK]
    assert isinstance(stuck.error, Stuck)
    assert stuck.error.path == "a"
    assert root.children[0].snapshot().last_failure == "Stuck: a still runs 5 s after its cancellation"


async def test_the_cancel_of_a_child_says_why(autojump_clock: MockClock) -> None:
    texts: list[str] = []

    async def run(child: Child[None]) -> None:
        child.started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            texts.append(str(error))
            raise

    node = Worker("a", run, grace_s=1.0, backoff=NO_BACKOFF)
    async with open_tree(Supervisor("app", [node])):
        node.kill()
        await settled()
    assert ["a: kill" in texts[0], "a: it did not stop in time" in texts[1]] == [True, True], texts


async def bad() -> None:
    raise Boom("of the task")


async def test_a_failure_that_a_caller_gets_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(5):
        async with open_tree(DynamicSupervisor("pool")) as pool:
            with pytest.raises(TaskFailed):
                await pool.call(bad)
            assert lines(caplog) == []
            pool.start_task(bad, name="alone")
            await settled()
    assert lines(caplog) == [("ERROR", "alone failed")]


async def test_a_cancelled_call_raises_what_the_clean_up_raised(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("clean-up")

    with trio.fail_after(5):
        async with open_tree(DynamicSupervisor("pool")) as pool:
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = trio.current_time() + 1
                with pytest.raises(TaskFailed, match="task-1 failed") as caught:
                    await pool.call(task)
            assert isinstance(caught.value.__cause__, Boom)
            assert pool.children == ()
    assert lines(caplog) == []


async def test_a_cancelled_start_raises_what_the_clean_up_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def run(_child: Child[None]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("clean-up")

    failed: list[StartFailed] = []

    async def start() -> None:
        try:
            await root.start(Worker("a", run))
        except StartFailed as error:
            failed.append(error)

    async with open_tree(Supervisor("app")) as root, trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await settled()
        nursery.cancel_scope.cancel()
    assert [type(error.__cause__) for error in failed] == [Boom]
    assert lines(caplog) == []  # the caller has it


def test_ctrl_c_in_a_call_leaves_no_task() -> None:
    children: list[object] = []

    async def task() -> None:
        await trio.lowlevel.checkpoint()
        press()
        await trio.sleep_forever()

    @trio.lowlevel.enable_ki_protection
    def press() -> None:
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with open_tree(DynamicSupervisor("pool")) as pool:
            try:
                await pool.call(task)
            finally:
                children.append(pool.children)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.group_contains(KeyboardInterrupt)
    assert children == [()]


async def test_an_observer_that_fails_does_not_hide_the_event(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise Boom("observer")

    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")], backoff=NO_BACKOFF), broken)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].fail()
            await settled()
    assert ("ERROR", "a failed") in lines(caplog)
    assert "an observer failed at a failed" in caplog.text


async def test_a_plain_function_as_a_child_never_uses_up_its_grace(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tree(Supervisor("app", [Worker("a", nursery_task(trio.sleep_forever))])):
        pass
    assert trio.current_time() == 0
    assert lines(caplog) == []
