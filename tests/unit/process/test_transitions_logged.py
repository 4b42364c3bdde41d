"""What the service logs and counts of the transitions of its tree."""

from __future__ import annotations

from collections import Counter

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from avion_media.common.telemetry import instruments
from avion_media.config import Config
from avion_media.process.runtime import Runtime
from avion_media.service import _log_transition
from supervisors import Backoff, Child, Event, Supervisor, Worker, open_tree
from trio_telemetry import AttributeValue, Instrument, Telemetry


class _Counting(Telemetry):
    def __init__(self) -> None:
        self.counted: Counter[tuple[str, ...]] = Counter()

    def count(self, instrument: Instrument, value: float = 1, **attributes: AttributeValue) -> None:
        self.counted[(instrument.name, *map(str, attributes.values()))] += int(value)


async def _raises(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()
    raise OSError("tasks could not be released")


async def _deaf(child: Child[None]) -> None:
    child.started()
    await trio.sleep_forever()


async def _stuck(child: Child[None]) -> None:
    child.started()
    with trio.CancelScope(shield=True):
        await trio.sleep(20)


async def _crashes_once(child: Child[None]) -> None:
    child.started()
    if child.incarnation == 1:
        raise ValueError("a bug")
    await child.stopping.wait()


async def test_no_end_is_silent(autojump_clock: MockClock) -> None:
    telemetry = _Counting()
    runtime = Runtime(Config(), telemetry=telemetry)
    bodies = {"raises": _raises, "deaf": _deaf, "stuck": _stuck, "crashes": _crashes_once}
    workers = [Worker(name, body, grace_s=1, backoff=Backoff(0, 0)) for name, body in bodies.items()]
    root = Supervisor("root", workers)

    def log(event: Event) -> None:
        _log_transition(runtime, event)

    root.observe(log)
    with capture_logs() as logs:
        async with open_tree(root):
            await trio.sleep(1)
    loud = [line for line in logs if line["log_level"] != "debug"]
    assert [(line["path"], line["event"], line["log_level"]) for line in loud] == [
        ("crashes", "supervision.failed", "error"),
        ("crashes", "supervision.backoff", "warning"),
        ("stuck", "supervision.cancelled", "warning"),
        ("stuck", "supervision.stuck", "error"),
        ("deaf", "supervision.cancelled", "warning"),
        ("raises", "supervision.stopped", "error"),
    ]
    assert isinstance(loud[-1]["exc_info"], OSError)
    assert all("in _stuck" in line["stack"] for line in loud[2:4])
    name = instruments.UNCLEAN_ENDS.name
    assert telemetry.counted == {
        (instruments.RESTARTS.name, "crashes"): 1,
        (name, "raises", "error"): 1,
        (name, "deaf", "late"): 1,
        (name, "stuck", "late"): 1,
        (name, "stuck", "stuck"): 1,
    }
