"""What comes from outside or goes beyond an ordinary failure: cancellation, KeyboardInterrupt, kill, bad observers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Child,
    End,
    Event,
    EventKind,
    Intensity,
    Killed,
    Node,
    Restart,
    State,
    Strategy,
    Supervisor,
    TooManyRestarts,
    Worker,
    open_tree,
)
from supervisors._engine import Engine
from supervisors._errors import leaves_of

from .probes import NO_BACKOFF, PLENTY, Boom, Stage, observed, run_expecting, settled, terminate


class Alarm(BaseException):
    """Stands for KeyboardInterrupt and SystemExit."""


async def test_a_cancelled_surrounding_scope_makes_an_ordered_stop(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c", grace_s=3.0)])
    root = observed(Supervisor("app", [stage.spec("a"), inner]), stage.observe)
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(root.run, cancel_grace_s=10))
            stage["a"].stop_s = 2.0
            stage["c"].deaf = True
    assert scope.cancelled_caught
    assert trio.current_time() == 1 + 3 + 2
    assert stage.take_log() == "+a +b +c -c -b -a"
    assert root.snapshot().state is State.STOPPED
    assert stage.kinds("/") == ["starting", "started", "stopping", "stopped"]


async def test_a_base_exception_after_a_cancellation_is_what_comes_out() -> None:
    stage = Stage()

    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        raise Alarm("while stopping")

    root = Supervisor("app", [stage.spec("a"), Worker("b", run)])
    caught: list[BaseException] = []

    async def run_root(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except BaseException as exc:
            caught.append(exc)
            if isinstance(exc, trio.Cancelled):
                raise

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_root)
            nursery.cancel_scope.cancel()
    assert [type(error) for error in caught] == [Alarm]
    assert stage.take_log() == "+a -a"


async def test_a_cancellation_while_starting(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b", grace_s=3.0), stage.spec("c")])
    stage["b"].hangs_in_start = True
    with trio.move_on_after(1) as scope:
        await root.run(cancel_grace_s=10)
    assert scope.cancelled_caught
    assert trio.current_time() == 4.0
    assert stage.take_log() == "+a +b -b -a"


async def test_a_cancellation_before_the_first_step() -> None:
    stage = Stage()
    with trio.fail_after(5), trio.CancelScope() as scope:
        scope.cancel()
        await Supervisor("app", [stage.spec("a")]).run()
    assert scope.cancelled_caught
    assert stage.up() == set()


async def test_a_cancellation_during_the_stop_adds_nothing(autojump_clock: MockClock) -> None:
    stage = Stage()
    with trio.move_on_after(1):
        async with open_tree(Supervisor("app", [stage.spec("a", grace_s=3.0)]), cancel_grace_s=10) as root:
            stage["a"].deaf = True
            root.stop()
    assert trio.current_time() == 3.0


@pytest.mark.parametrize("alarm", [Alarm("alarm"), KeyboardInterrupt(), SystemExit(3)])
async def test_a_base_exception_of_a_child_stops_the_tree_in_order_and_comes_out(alarm: BaseException) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c")])
    specs = [stage.spec("a"), inner, stage.spec("d")]
    root = observed(Supervisor("app", specs, intensity=PLENTY, backoff=NO_BACKOFF), stage.observe)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, type(alarm))
            stage["b"].fail(alarm)
    assert stage.take_log() == "+a +b +c +d -b -c -d -a"
    assert [event.path for event in stage.events if event.error is alarm] == ["inner/b", "inner", "/"]
    assert root.snapshot().state is State.FAILED


async def test_a_group_with_a_base_exception_comes_out_whole() -> None:
    group = BaseExceptionGroup("both", [Boom("one"), BaseExceptionGroup("inner", [Alarm("two")])])
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")])
    caught: list[BaseException] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except BaseExceptionGroup as exc:
            caught.append(exc)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            stage["a"].fail(group)
    assert caught == [group]


async def test_two_base_exceptions_come_out_together() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")])
    first, second = Alarm("first"), Alarm("second")
    caught: list[BaseException] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except BaseExceptionGroup as exc:
            caught.extend(exc.exceptions)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            stage["a"].fail(first)
            stage["b"].fail(second)
    assert set(caught) == {first, second}


async def test_a_base_exception_while_stopping_is_not_lost(autojump_clock: MockClock) -> None:
    stage = Stage()

    async def run(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        raise Alarm("at the end")

    root = Supervisor("app", [stage.spec("a"), Worker("b", run)])
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, Alarm)
        root.stop()
    assert stage.take_log() == "+a -a"


def test_ctrl_c_that_reaches_the_supervisor_stops_in_order() -> None:
    """Trio raises it in the main task, here the supervisor, wherever that waits, shielded or not."""
    stage = Stage()

    @trio.lowlevel.enable_ki_protection
    def press() -> None:
        signal.raise_signal(signal.SIGINT)

    async def run(child: Child[None]) -> None:
        child.started()
        press()
        await child.stopping.wait()
        stage.log.append("asked")

    root = Supervisor("app", [stage.spec("a"), Worker("b", run)])
    with pytest.raises(KeyboardInterrupt):
        trio.run(root.run)
    assert stage.take_log() == "+a asked -a"


def test_ctrl_c_reaches_a_busy_child_where_it_is() -> None:
    """A child that computes without a checkpoint could not be interrupted otherwise."""
    stage = Stage()

    async def run(child: Child[None]) -> None:
        child.started()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            stage.log.append("hit")
            raise
        stage.log.append("missed")

    root = Supervisor("app", [stage.spec("a"), Worker("b", run)])
    with pytest.raises(KeyboardInterrupt):
        trio.run(root.run)
    assert stage.take_log() == "+a hit -a"


def test_a_second_ctrl_c_gives_up_the_grace() -> None:
    clock = MockClock(autojump_threshold=0)
    stage = Stage()
    stopped_at: list[float] = []

    @trio.lowlevel.enable_ki_protection
    def press() -> None:
        signal.raise_signal(signal.SIGINT)

    async def run(child: Child[None]) -> None:
        child.started()
        press()
        await child.stopping.wait()
        await trio.sleep(2)
        press()
        try:
            await trio.sleep_forever()
        finally:
            stopped_at.append(trio.current_time())

    root = Supervisor("app", [stage.spec("a"), Worker("b", run, grace_s=100.0)])
    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(root.run, clock=clock)
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt] * 2
    assert stopped_at == [2.0]
    assert stage.take_log() == "+a -a"


async def test_killed_counts_as_a_crash() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")]), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            assert root.find("a").kill()
            assert root.find("a").kill()  # already on its way: nothing is counted twice
            await settled()
            assert stage.take_log() == "+a +b -a +a"
            assert root.snapshot().children[0].last_failure == "Killed: a was killed"
    assert stage.kinds("a")[:5] == ["starting", "started", "cancelled", "failed", "backoff"]


async def test_a_killed_child_that_turns_the_cancellation_into_an_error() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")]), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].last_words = Boom("could not even clean up")
            root.find("a").kill()
            await settled()
    errors = [event.error for event in stage.events if event.kind == "failed"]
    assert [type(error) for error in errors] == [Killed]
    assert isinstance(errors[0].__cause__ if errors[0] else None, Boom)


async def test_killing_what_is_down_does_nothing() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a")])) as root:
            await terminate(root, "a")
            assert root.find("a").kill() is False
            await settled()
            assert root.snapshot().children[0].state is State.STOPPED


async def test_killing_a_subtree_gives_no_grace_but_keeps_the_order(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b"), Supervisor("deep", [stage.spec("c"), stage.spec("d")])])
    root = Supervisor("app", [stage.spec("a"), inner, stage.spec("e")])
    async with open_tree(root):
        for name in "bcd":
            stage[name].deaf = True
            stage[name].clean_up_s = 1.0
        stage.take_log()
        root.find("inner").kill()
        await trio.sleep(10)
        assert stage.take_log() == "-d -c -b +b +c +d"
        for name in "bcd":
            stage[name].deaf = False
        assert root.snapshot().children[1].incarnation == 2
    assert trio.current_time() == 10.0


async def test_killing_a_subtree_that_has_not_begun_yet() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b")])

    def kill_at_once(event: Event) -> None:
        if (event.path, event.kind, event.incarnation) == ("inner", "starting", 2):
            root.find("inner").kill()

    root = observed(Supervisor("app", [inner], intensity=Intensity(5, 1), backoff=NO_BACKOFF), kill_at_once)
    with trio.fail_after(5):
        async with open_tree(root):
            root.find("inner").kill()
            await settled()
            assert stage.up() == {"b"}
            assert root.snapshot().children[0].incarnation == 3


async def test_killing_a_child_during_the_group_stop_only_hastens_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor(
        "app", [stage.spec("a"), stage.spec("b")], strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(1, 100)
    )
    async with open_tree(root):
        stage["b"].deaf = True
        stage["a"].fail()
        await trio.sleep(1)
        root.find("b").kill()
        stage["b"].deaf = False
        await settled()
        assert stage.take_log() == "+a +b -a -b +a +b"


async def test_killing_the_root() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")]), stage.observe)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, Killed)
            stage["a"].deaf = stage["b"].deaf = True
            assert root.kill() is True
    assert stage.take_log() == "+a +b -b -a"
    assert stage.kinds("/") == ["starting", "started", "stopping", "failed"]


async def test_killing_the_root_during_an_escalation_only_hastens_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=60), stage.spec("b")], intensity=Intensity(0))
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, TooManyRestarts)
        stage["a"].deaf = True
        stage["b"].fail()
        await trio.sleep(1)
        root.kill()
    assert trio.current_time() == 1.0


async def test_an_error_during_the_stop_is_told_but_fails_nothing() -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a")]), stage.observe)
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].last_words = Boom("at the end")
    (stopped,) = [event for event in stage.events if event.path == "a" and event.kind == "stopped"]
    assert isinstance(stopped.error, Boom)
    assert root.snapshot().state is State.STOPPED
    assert root.snapshot().children[0].last_failure == "Boom: at the end"


async def test_a_child_that_swallows_its_cancellation_is_still_stopped(autojump_clock: MockClock) -> None:
    """The supervisor goes by its own flag; how the child ends does not matter."""

    async def run(child: Child[None]) -> None:
        child.started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return

    root = Supervisor("app", [Worker("a", run)], intensity=Intensity(0))
    async with open_tree(root):
        await terminate(root, "a")
        assert root.snapshot().children[0].state is State.STOPPED
        assert root.snapshot().state is State.RUNNING


async def test_a_failing_observer_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()

    def broken(event: Event) -> None:
        raise Boom("observer")

    root = observed(Supervisor("app", [stage.spec("a")]), broken, stage.observe)
    with trio.fail_after(5), caplog.at_level(logging.ERROR, "supervisors"):
        async with open_tree(root):
            stage["a"].fail()
            await settled()
            assert stage["a"].lives == 2
    assert "an observer failed at a failed" in caplog.text
    assert stage.kinds("/") == ["starting", "started", "stopping", "stopped"]


async def test_a_base_exception_of_an_observer_stops_in_order() -> None:
    stage = Stage()

    def alarm(event: Event) -> None:
        if (event.path, event.kind) == ("a", "failed"):
            raise Alarm("observer")

    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")]), alarm)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, Alarm)
            stage["a"].fail()
    assert stage.take_log() == "+a +b -a +a -b -a"


@pytest.mark.parametrize("act", [Node.stop, Node.kill])
async def test_the_end_of_a_child_that_raises_an_interruption_is_that_of_its_event(
    act: Callable[[Node[None]], object],
) -> None:
    stage, alarm = Stage(), Alarm("while it ended")
    ends: list[End | None] = []

    async def run(child: Child[None]) -> None:
        child.started()
        try:
            with child.until_stopping():
                await trio.sleep_forever()
        finally:
            raise alarm

    node = Worker("a", run)
    root = observed(Supervisor("app", [node]), stage.observe)

    async def note_the_end() -> None:
        ends.append(await node.wait_down())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, Alarm)
            nursery.start_soon(note_the_end)
            await settled()
            act(node)
    (event,) = [each for each in stage.events if each.path == "a" and each.kind == "failed"]
    (end,) = ends
    assert end is not None
    assert (end.kind, end.error) == (event.kind, event.error) == (EventKind.FAILED, alarm)


async def test_a_defect_of_the_engine_leaves_no_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    specs: list[Node[None]] = [
        stage.spec("a"),
        Supervisor("s", [stage.spec("b")]),
        stage.spec("c", restart=Restart.TEMPORARY),
    ]
    specs.append(stage.spec("removed", grace_s=60.0))
    root = Supervisor("app", specs)
    ends: list[End | None] = []

    def broken(self: Engine, nursery: trio.Nursery, now: float) -> None:
        raise AssertionError("a defect")

    async def note_the_end() -> None:
        ends.append(await root.children[0].wait_down())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, ExceptionGroup)
            await root.start(stage.spec("added"))
            stage["c"].fail()
            stage["removed"].deaf = True
            nursery.start_soon(root.remove, root.children[3])
            nursery.start_soon(note_the_end)
            await settled()
            stage["a"].deaf = True
            monkeypatch.setattr(Engine, "_step", broken)
            stage["a"].fail()
    assert stage.up() == set()
    assert root.snapshot().state is State.FAILED
    states = {child.name: child.state for child in root.children}
    assert states == {"a": State.STOPPED, "s": State.STOPPED, "c": State.FAILED}
    assert ends == [End("a", 1, EventKind.STOPPED)]


async def test_an_interruption_before_a_defect_of_the_engine_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stage = Stage()
    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")]), stage.observe)
    caught: list[BaseException] = []

    def broken(self: Engine, nursery: trio.Nursery, now: float) -> None:
        raise AssertionError("a defect")

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await root.run(task_status=task_status)
        except BaseExceptionGroup as exc:
            caught.append(exc)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        stage["b"].stop_s = 1.0
        stage["a"].fail(Alarm("first"))
        await settled()
        monkeypatch.setattr(Engine, "_step", broken)
    (error,) = caught
    assert [type(leaf) for leaf in leaves_of(error)] == [Alarm, AssertionError]
    assert (stage.kinds("/")[-1], root.state) == ("failed", State.FAILED)


async def test_a_cancel_during_the_stop_of_a_supervisor_that_gave_up_comes_out(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=5.0), stage.spec("b")], intensity=Intensity(0))
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            stage["a"].deaf = True
            stage["b"].fail()
    assert (scope.cancelled_caught, trio.current_time()) == (True, 5.0)


async def test_a_cancel_after_the_end_of_a_supervisor_that_gave_up_hides_nothing() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a")], intensity=Intensity(0))

    def cancel(event: Event) -> None:
        if (event.path, event.kind) == ("/", "failed"):
            nursery.cancel_scope.cancel()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        with pytest.raises(TooManyRestarts) as caught:
            await observed(root, cancel).run(task_status=task_status)
        raised.append(caught.value)

    raised: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            stage["a"].fail()
    assert (nursery.cancel_scope.cancel_called, len(raised)) == (True, 1)


async def test_two_groups_with_a_keyboard_interrupt_end_the_grace(autojump_clock: MockClock) -> None:
    stage = Stage()

    async def interrupt(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        raise BaseExceptionGroup("", [KeyboardInterrupt(), Boom()])

    specs = [stage.spec("a", grace_s=60.0), Worker("b", interrupt), stage.spec("c")]
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, Supervisor("app", specs), BaseExceptionGroup)
        stage["a"].deaf = True
        stage["c"].fail(BaseExceptionGroup("", [KeyboardInterrupt(), Boom()]))
    assert trio.current_time() == 0.0


async def test_an_observer_may_act_on_the_tree() -> None:
    stage = Stage()

    def stop_after_a_failure(event: Event) -> None:
        if event.kind == "failed":
            root.stop()

    root = observed(Supervisor("app", [stage.spec("a"), stage.spec("b")]), stop_after_a_failure)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(root.run)
            stage["a"].fail()
    assert stage.take_log() == "+a +b -a +a -b -a"


async def test_a_stop_at_every_single_event_ends_cleanly(autojump_clock: MockClock) -> None:
    """Stopping is clean wherever the tree happens to be: each run stops at another one of its transitions."""
    seen = 1
    while seen:
        stage = Stage()
        seen = await _run_and_stop_at(stage, seen)
        assert stage.up() == set()


async def _run_and_stop_at(stage: Stage, number: int) -> int:
    counted = 0

    def observe(event: Event) -> None:
        nonlocal counted
        counted += 1
        if counted == number:
            root.stop()

    inner = Supervisor("inner", [stage.spec("b"), stage.spec("c", grace_s=1.0)], strategy=Strategy.ONE_FOR_ALL)
    root = observed(Supervisor("app", [stage.spec("a"), inner, stage.spec("d")]), observe)
    stage["c"].deaf = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        stage["b"].fail()
        await trio.sleep(5)
        if "inner" in {child.path for child in root.snapshot().children if child.state is State.RUNNING}:
            root.find("inner").kill()
        await trio.sleep(5)
        root.stop()
    assert {node.state for node in root.snapshot().walk()} <= {State.STOPPED, State.FAILED, State.WAITING}
    return number + 1 if counted >= number else 0


async def test_restarts_that_hang_escalate_level_by_level(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("b", start_timeout_s=1)], intensity=Intensity(1, 10))
    root = Supervisor("app", [inner], intensity=Intensity(0))
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, TooManyRestarts)
        stage["b"].hangs_in_start = True
        stage["b"].fail()
    assert trio.current_time() == 1.0
    assert root.snapshot().last_failure == "TooManyRestarts: /: more than 0 restarts within 5 s, the last for inner"
    assert root.snapshot().children[0].children[0].last_failure == "TimeoutError: inner/b had not started within 1 s"
