"""What a drain does when a part of it fails, and while a node restarts."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from avion_media.config import Config
from avion_media.process.drain import run_until_stopped
from avion_media.process.lifecycle import Phase
from avion_media.process.runtime import Runtime
from avion_media.process.settings import DrainConfig
from avion_media.process.watchdog import Watchdog
from supervisors import Child, Supervisor, Worker

SETTLE_S, GRACE_S = 5.0, 20.0


async def _idle(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()


def _runtime() -> Runtime:
    return Runtime(Config(drain=DrainConfig(settle=SETTLE_S, grace=GRACE_S)))


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
