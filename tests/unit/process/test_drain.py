"""What a drain does when a part of it fails, while a node restarts, and at further signals."""

from __future__ import annotations

import signal
from functools import partial

import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from avion_media.config import Config
from avion_media.process.drain import run_until_stopped
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Runtime
from avion_media.process.settings import DrainConfig
from supervisors import Child, Supervisor, Watchdog, Worker

SETTLE_S, GRACE_S, HOUR_S = 5.0, 20.0, 3600.0


async def _idle(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()


def _runtime(grace: float = GRACE_S) -> Runtime:
    return Runtime(Config(drain=DrainConfig(settle=SETTLE_S, grace=grace)))


async def _drained(runtime: Runtime) -> dict[Phase, float]:
    """Run a tree under ``runtime`` to the end of its drain; the time at which each phase was entered."""
    entered: dict[Phase, float] = {}

    def enter(phase: Phase) -> None:
        entered[phase] = trio.current_time()

    runtime.lifecycle.on_change(enter)
    runtime.stop_requested.set()
    root = Supervisor("root", [Worker("idle", _idle)])
    await run_until_stopped(root, runtime, trio.sleep_forever, watchdog=Watchdog(600.0))
    return entered


async def test_a_failing_drain_leaves_the_other_drains_their_time(autojump_clock: MockClock) -> None:
    runtime = _runtime()
    drained: list[str] = []

    async def broken(_grace_s: float) -> None:
        raise RuntimeError("it does not drain")

    async def slow(_grace_s: float) -> None:
        await trio.sleep(10)
        drained.append("slow")

    runtime.drains |= {"broken": broken, "slow": slow}
    with capture_logs() as logs:
        entered = await _drained(runtime)
    assert drained == ["slow"]
    assert entered[Phase.STOPPING] - entered[Phase.DRAINING] == 10
    (line,) = [line for line in logs if line["event"] == "drain.failed"]
    assert (line["node"], line["log_level"]) == ("broken", "error")


async def test_a_replica_that_was_ready_settles_even_while_its_readiness_restarts(autojump_clock: MockClock) -> None:
    runtime = _runtime()
    runtime.lifecycle.advance_to(Phase.READY)
    runtime.readiness.set_components_ready(True)
    runtime.readiness.set_components_ready(False)  # the readiness node crashed and waits for its restart
    entered = await _drained(runtime)
    assert entered[Phase.DRAINING] - entered[Phase.LAME_DUCK] == SETTLE_S


async def test_a_replica_that_was_never_ready_does_not_settle(autojump_clock: MockClock) -> None:
    entered = await _drained(_runtime())
    assert entered[Phase.DRAINING] == entered[Phase.LAME_DUCK]


async def _deaf(child: Child[None]) -> None:
    child.started()
    await trio.sleep(HOUR_S)


async def test_each_further_signal_skips_a_phase_and_the_last_cancels_the_nodes(autojump_clock: MockClock) -> None:
    """LAME_DUCK, DRAINING with a drain that takes an hour, and a node that does not stop by itself."""
    runtime = _runtime(grace=HOUR_S)
    runtime.lifecycle.advance_to(Phase.READY)
    runtime.drains["slow"] = trio.sleep  # for the whole grace
    entered: list[tuple[Phase, float]] = []
    runtime.lifecycle.on_change(lambda phase: entered.append((phase, trio.current_time())))
    root = Supervisor("root", [Worker("deaf", _deaf, grace_s=HOUR_S)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_until_stopped, root, runtime, trio.sleep_forever, watchdog=Watchdog(600.0)))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(4):
            await trio.sleep(1)
            signal.raise_signal(signal.SIGTERM)
    first = entered[0][1]
    assert [(phase, at - first) for phase, at in entered] == [
        (Phase.LAME_DUCK, 0),
        (Phase.DRAINING, 1),
        (Phase.STOPPING, 2),
        (Phase.DONE, 3),
    ]


async def test_signals_in_one_moment_skip_one_phase_each(autojump_clock: MockClock) -> None:
    runtime = _runtime(grace=HOUR_S)
    runtime.lifecycle.advance_to(Phase.READY)
    runtime.drains["slow"] = trio.sleep
    entered: dict[Phase, float] = {}
    runtime.lifecycle.on_change(lambda phase: entered.update({phase: trio.current_time()}))
    root = Supervisor("root", [Worker("deaf", _deaf, grace_s=7)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_until_stopped, root, runtime, trio.sleep_forever, watchdog=Watchdog(600.0)))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert entered[Phase.STOPPING] == entered[Phase.DRAINING] == entered[Phase.LAME_DUCK]
    assert entered[Phase.DONE] == entered[Phase.STOPPING] + 7
