"""Faults of user code and repeated cancels, none of which may cost the order, the grace or the escalation."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Backoff,
    Child,
    DynamicSupervisor,
    Event,
    Intensity,
    Node,
    Restart,
    Shutdown,
    SpecError,
    State,
    Supervisor,
    TooManyRestarts,
    Worker,
    nursery_task,
    open_tree,
)
from supervisors._errors import text_of

from .probes import NO_BACKOFF, Boom, Stage, observed, run_expecting, settled


class Unspeakable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _cancelled_run(turn: int, log: list[str]) -> None:
    """One tree in `open_tree` that is cancelled from outside; its child finishes its work within its grace."""

    async def work(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        await trio.sleep(1)
        log.append("finished")

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_soon, scope, turn % 3)
                tree = Supervisor("app", [Worker("a", work, grace_s=5.0)])
                async with open_tree(tree, cancel_grace_s=5.0):
                    await trio.sleep_forever()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def _cancel_soon(scope: trio.CancelScope, checkpoints: int) -> None:
    await trio.sleep(1)
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()


def test_every_cancel_of_an_open_tree_keeps_the_grace() -> None:
    """Trio runs the tasks of one step in random order: 200 runs have both orders of the block and the supervisor."""
    log: list[str] = []
    for turn in range(200):
        _cancelled_run(turn, log)
    assert len(log) == 200


async def test_a_cancel_that_is_on_its_way_when_the_stop_is_requested_keeps_the_grace(
    autojump_clock: MockClock,
) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=5.0)])
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(root.run, cancel_grace_s=5.0))
        stage["a"].stop_s = 3.0
        nursery.cancel_scope.cancel()
        root.stop()
    assert trio.current_time() == 3.0


async def test_the_first_interruption_during_a_stop_keeps_the_grace(autojump_clock: MockClock) -> None:
    """Only a second KeyboardInterrupt ends the grace; a stop that was requested before is not the first."""

    def interrupt(event: Event) -> None:
        if event.kind == "stopping":
            remove()
            raise KeyboardInterrupt

    stage = Stage()
    root = Supervisor("app", [stage.spec("a", grace_s=5.0)])
    remove = root.observe(interrupt)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_expecting, root, KeyboardInterrupt)
        stage["a"].stop_s = 3.0
        root.stop()
    assert trio.current_time() == 3.0


async def test_a_nested_supervisor_that_fails_at_once_escalates(autojump_clock: MockClock) -> None:
    """``Intensity(20, 60)`` with the default backoff, as the service has it: it gives up within a minute."""

    async def crash(child: Child[None]) -> None:
        child.started()
        await trio.sleep(0.1)
        raise Boom("again")

    stage = Stage()
    inner = Supervisor("inner", [Worker("b", crash)], intensity=Intensity(0))
    root = observed(Supervisor("app", [inner], intensity=Intensity(20, 60.0)), stage.observe)
    with trio.fail_after(24 * 3600):
        await run_expecting(root, TooManyRestarts)
    assert trio.current_time() < 60
    assert stage.kinds("inner").count("failed") == 21


@pytest.mark.parametrize("levels", [2, 3])
async def test_a_fault_that_lasts_ends_the_tree_from_any_depth(levels: int, autojump_clock: MockClock) -> None:
    """A worker that fails at once below supervisors that all have ``Intensity(20, 60)``, as the service has it.

    The lowest supervisor needs half a minute to give up. If it needed that again after its restart, the one above would
    see two failures in a minute and never give up.
    """

    async def crash(child: Child[None]) -> None:
        child.started()
        await trio.sleep(0.1)
        raise Boom("again")

    node: Node[None] = Worker("worker", crash)
    for level in range(levels):
        node = root = Supervisor(f"level-{level}", [node], intensity=Intensity(20, 60.0), backoff=Backoff(max_s=2.0))
    with trio.fail_after(24 * 3600):
        await run_expecting(root, TooManyRestarts)
    assert trio.current_time() < 120


async def test_a_supervisor_that_gave_up_forgets_it_after_its_window(autojump_clock: MockClock) -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("a")], backoff=NO_BACKOFF, intensity=Intensity(1, 10.0))
    root = Supervisor("app", [inner], backoff=NO_BACKOFF, intensity=Intensity(2, 10.0))
    async with open_tree(root):
        for _ in range(2):  # the second failure within 10 s restarts the supervisor
            stage["a"].fail()
            await settled()
        assert inner.snapshot().incarnation == 2
        await trio.sleep(11)
        stage["a"].fail()
        await settled()
        assert (inner.snapshot().incarnation, inner.state) == (2, State.RUNNING)


async def test_a_tree_that_runs_again_counts_anew() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("a")], backoff=NO_BACKOFF, intensity=Intensity(1, 10.0))
    root = Supervisor("app", [inner], backoff=NO_BACKOFF)
    for run in (1, 2):
        async with open_tree(root):
            stage["a"].fail()
            await settled()
            assert (inner.snapshot().incarnation, inner.state) == (run, State.RUNNING)


@pytest.mark.parametrize("kind", ["worker", "supervisor"])
def test_an_intensity_that_the_backoff_of_a_child_never_reaches_is_refused(kind: str) -> None:
    slow, quick = Backoff(first_s=0.1, max_s=30.0), Backoff(first_s=0.1, max_s=2.0)

    def place(backoff: Backoff) -> None:
        """A worker has its own backoff, a nested supervisor that of the supervisor above."""
        if kind == "worker":
            child: Node[None] = Worker("a", nursery_task(trio.sleep_forever), backoff=backoff)
            Supervisor("app", [child], intensity=Intensity(20, 60.0))
        else:
            Supervisor("app", [Supervisor("a")], intensity=Intensity(20, 60.0), backoff=backoff)

    with pytest.raises(SpecError, match=r"20 restarts of 'a' take at least 305 s, .*60 s"):
        place(slow)
    place(quick)


def test_the_backoff_of_a_temporary_child_does_not_matter() -> None:
    child = Supervisor("a", restart=Restart.TEMPORARY)
    Supervisor("app", [child], intensity=Intensity(20, 60.0), backoff=Backoff(max_s=30.0))


def test_a_supervisor_that_never_gives_up_takes_any_backoff() -> None:
    Supervisor("app", [Supervisor("a")], intensity=Intensity(math.inf), backoff=Backoff(max_s=3_600.0))


async def test_a_dynamic_child_that_can_never_escalate_is_refused() -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool", intensity=Intensity(20, 60.0))
    async with open_tree(pool):
        with pytest.raises(SpecError, match="take at least 305 s"):
            await pool.start(stage.spec("a", backoff=Backoff(max_s=30.0)))


async def test_an_error_without_a_text_only_restarts() -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec("a"), stage.spec("b")])
    with trio.fail_after(5):
        async with open_tree(root):
            stage["b"].fail(ExceptionGroup("several", [Unspeakable(), Boom("fine")]))
            await settled()
            assert stage.take_log() == "+a +b -b +b"
            (_, failed) = root.snapshot().children
            assert failed.last_failure == "ExceptionGroup: several [Unspeakable: its text cannot be shown; Boom: fine]"
    assert stage.take_log() == "-b -a"


async def test_an_error_that_is_nested_too_deep_for_python_only_restarts(caplog: pytest.LogCaptureFixture) -> None:
    error: Exception = Boom("deep down")
    for _ in range(5_000):
        error = ExceptionGroup("", [error])
    stage = Stage()
    with trio.fail_after(20):
        async with open_tree(Supervisor("app", [stage.spec("a"), stage.spec("b")])):
            stage["b"].fail(error)
            await settled()
            assert stage.take_log() == "+a +b -b +b"
    assert stage.take_log() == "-b -a"
    assert "b failed: ExceptionGroup:  [Boom: deep down]" in caplog.text


async def test_a_dead_child_is_freed_without_the_garbage_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("supervisors.events"), "disabled", True)  # pytest keeps what is logged

    class Big:
        pass

    seen: list[weakref.ref[Big]] = []

    async def run(child: Child[None]) -> None:
        child.started()
        if child.incarnation == 1:
            big = Big()
            seen.append(weakref.ref(big))
            raise Boom("crash")
        await child.stopping.wait()

    was_enabled = gc.isenabled()
    gc.disable()
    try:
        async with open_tree(Supervisor("app", [Worker("a", run, backoff=NO_BACKOFF)])) as root:
            await settled()
            assert root.children[0].snapshot().incarnation == 2
            assert seen[0]() is None
    finally:
        if was_enabled:
            gc.enable()


@pytest.mark.parametrize("restart", Restart)
async def test_a_start_that_succeeds_frees_the_failed_one_before(
    monkeypatch: pytest.MonkeyPatch, restart: Restart
) -> None:
    monkeypatch.setattr(logging.getLogger("supervisors.events"), "disabled", True)  # pytest keeps what is logged
    seen: list[weakref.ref[Boom]] = []

    async def run(child: Child[None]) -> None:
        if child.incarnation == 1:
            error = Boom("does not start")
            seen.append(weakref.ref(error))
            raise error
        child.started()
        await child.stopping.wait()

    node = Worker("a", run, restart=restart, backoff=NO_BACKOFF)
    node.stop()
    async with open_tree(Supervisor("app", [node])):
        node.restart()  # so that the failure of its first start is not that of its supervisor
        await settled()
        if restart is Restart.TEMPORARY:
            node.restart()
        await node.wait_started()
        gc.collect()
        assert seen[0]() is None


async def test_a_child_that_made_its_supervisor_give_up_keeps_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("supervisors.events"), "disabled", True)  # pytest keeps what is logged

    class Big:
        pass

    seen: list[weakref.ref[Big]] = []

    async def run(child: Child[None]) -> None:
        child.started()
        await settled()  # a root that never started would keep the cause
        big = Big()
        seen.append(weakref.ref(big))
        raise Boom("crash")

    root = Supervisor("app", [Worker("a", run)], intensity=Intensity(0))
    with pytest.raises(TooManyRestarts):
        await root.run()
    gc.collect()
    assert seen[0]() is None


async def test_a_shutdown_without_a_text_only_ends_its_child() -> None:
    class Silent(Shutdown):
        def __str__(self) -> str:
            raise Boom

    stage = Stage()
    root = Supervisor("app", [stage.spec("a", restart=Restart.TRANSIENT), stage.spec("b")])
    with trio.fail_after(5):
        async with open_tree(root):
            stage["a"].fail(Silent())
            await settled()
            ended, other = root.snapshot().children
            assert (ended.state, ended.reason) == (State.FINISHED, "its text cannot be shown")
            assert other.state is State.RUNNING


def test_the_text_of_an_error_is_shown_even_when_it_interrupts() -> None:
    class Interrupting(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    assert text_of(Interrupting()) == "Interrupting: its text cannot be shown"


async def test_a_handle_that_start_was_given_can_be_stopped_and_found() -> None:
    stage = Stage()
    pool = DynamicSupervisor("pool")
    root = Supervisor("app", [Supervisor("inner", [pool])])
    with trio.fail_after(5):
        async with open_tree(root):
            for supervisor in (pool, root):
                child = stage.spec("a")
                await pool.start(child)
                assert child.path == "inner/pool/a"
                assert supervisor.find(child.path) is child
                child.stop()
                await child.wait_down()
                assert stage.up() == set()
