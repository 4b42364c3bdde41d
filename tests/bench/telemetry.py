"""What telemetry costs when its collector is away: against the same service that was told of none.

All else is as by default: spans are exported every five seconds, metrics every minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.processes import cpu_s
from tests.bench.rpc.compare import UPLOADS, run_client
from tests.bench.setting import Setting
from tests.service.harness import Service
from tests.telemetry.collector import collector, hanging_collector, nobody

_UNCHANGED = Goal(0.95, at_least=True)
_NO_LONGER = Goal(1.05)
_DRAIN_ROUNDS = 3
_SETTLE = "5s"  # the default; without it a drain of an idle service takes a tenth of a second
Away = Callable[[], AbstractContextManager[str]]


def measure(setting: Setting) -> list[Figure]:
    """Calls per second, of CPU time and by the clock, and the length of a drain."""
    collectors: dict[str, Away] = {"dead": nobody, "hanging": hanging_collector, "listening": _listening}
    if setting.quick:
        del collectors["dead"], collectors["listening"]
    with ExitStack() as stack:
        without = stack.enter_context(_service(setting, ""))
        told = {
            name: stack.enter_context(_service(setting, stack.enter_context(opened())))
            for name, opened in collectors.items()
        }
        figures = [figure for name, service in told.items() for figure in _calls(setting, name, service, without)]
    return [*figures, _drain(setting)]


def _calls(setting: Setting, name: str, ours: Service, theirs: Service) -> list[Figure]:
    calls, rounds = (200, 1) if setting.quick else (4000, 7)
    if not setting.quick:
        _load(ours, calls)  # warm-up
        _load(theirs, calls)
    by_cpu, by_clock = [], []
    for number in range(rounds):
        sides = (ours, theirs) if number % 2 else (theirs, ours)
        taken = {id(side): _load(side, calls) for side in sides}
        (our_cpu, our_clock), (their_cpu, their_clock) = taken[id(ours)], taken[id(theirs)]
        by_cpu.append((our_cpu, their_cpu))
        by_clock.append((our_clock, their_clock))
    # A collector that listens costs its spans and their encoding; that is no goal, but good to know.
    goal = None if name == "listening" else _UNCHANGED
    return [
        Pairs(by_cpu).figure(f"collector {name}: RequestMediaUpload", "calls / CPU s", goal),
        Pairs(by_clock).figure(f"collector {name}: RequestMediaUpload", "calls / s", goal),
    ]


def _drain(setting: Setting) -> Figure:
    """From SIGTERM to the exit, of a service that has spans to tell."""

    def seconds(url: str) -> float:
        with _service(setting, url, DRAIN__SETTLE="0" if setting.quick else _SETTLE) as service:
            _load(service, 100 if setting.quick else 2000)
            began = time.monotonic()
            service.stop()
            return time.monotonic() - began

    with hanging_collector() as url:
        pairs = Pairs.taken(1 if setting.quick else _DRAIN_ROUNDS, lambda: seconds(url), lambda: seconds(""))
    return pairs.figure("collector hanging: drain", "s", _NO_LONGER)


def _service(setting: Setting, url: str, **settings: str) -> AbstractContextManager[Service]:
    environment = setting.service_environment(**settings)
    if url:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    return setting.running(environment, roles="grpc")


@contextmanager
def _listening() -> Iterator[str]:
    with collector() as found:
        yield found.url


def _load(service: Service, calls: int) -> tuple[float, float]:
    """Calls per second of the server's CPU, and by the clock."""
    before, began = cpu_s(service.process.pid), time.monotonic()
    run_client(service.grpc_address, UPLOADS, calls)
    return calls / (cpu_s(service.process.pid) - before), calls / (time.monotonic() - began)
