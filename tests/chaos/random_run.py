"""``python -m tests.chaos.random_run --seed 7 --minutes 15``: two replicas under load, while every part is killed.

The exit status is 0 if nothing was lost, double or unexpected.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.load import balanced_channel
from tests.chaos.random_faults import Faults
from tests.chaos.random_proxy import Mode
from tests.chaos.random_verdict import Reference, Report, Verdict, left_behind, listed, unfinished
from tests.chaos.random_work import CLIENTS, Clients, Deleter, Ledger, Listener, Observer, bodies
from tests.chaos.random_world import DELETE_DELAY_S, Background, World, open_world
from tests.crash.checker import keys_of

# Generous, because the machine may be busy. By then, what hangs will hang forever.
_CALM_S = 120.0
_QUIET_S = 240.0
_THREAD_S = 90.0


def run(seed: int, minutes: float, *, pause_s: float = 0.0, keep_logs: Path | None = None) -> Report:
    """Run a calm phase, a storm, and a calm phase; then return the report. Each client pauses between two uploads."""
    with ExitStack() as stack:
        world = stack.enter_context(open_world())
        channel = stack.enter_context(
            balanced_channel([each.environment["AVION_MEDIA_GRPC__BIND"] for each in world.replicas])
        )
        ledger = Ledger()
        clients = Clients(world, ledger, channel, seed, pause_s=pause_s)
        listener = Background("listener", Listener(world, ledger).take_turn)
        listener.start()
        reference = calm(world, ledger, clients)
        started = time.monotonic()
        deleter = Deleter(world, ledger, clients, seed)
        observer = Observer(world, ledger, channel, DELETE_DELAY_S)
        faults, threads = _storm(world, clients, deleter, observer, seed, minutes)
        report = Report(seed, time.monotonic() - started)
        come_to_rest(world, ledger, deleter, report)
        clients.give_up.set()
        stop([*threads, listener], report)
        Verdict(world, ledger, reference, report).give(faults.all)
        if keep_logs is not None:
            for replica in world.replicas:
                (keep_logs / replica.log.name).write_bytes(replica.log.read_bytes())
            (keep_logs / "attempts").write_bytes(world.attempts.read_bytes())
    return report


def calm(world: World, ledger: Ledger, clients: Clients) -> Reference:
    """Process one of each body undisturbed: every other one must have the same result."""
    ids = {body.name: clients.upload(body, body.name) for body in bodies()}
    assert world.watch(lambda: not ledger.open(), _CALM_S), f"not even in calm: {ledger.open()}"
    assert world.watch(lambda: not unfinished(world), _CALM_S), unfinished(world)
    objects = listed(world)
    return {
        name: {role: objects[key] for role, key in keys_of(media_id).items() if key in objects}
        for name, media_id in ids.items()
    }


def _storm(
    world: World, clients: Clients, deleter: Deleter, observer: Observer, seed: int, minutes: float
) -> tuple[Faults, list[Background]]:
    """Run until all faults are over. Threads of clients might still wait for responses."""
    working = [Background(f"client {number}", clients.take_turn) for number in range(CLIENTS)]
    watching = [Background("deleter", deleter.take_turn), Background("observer", observer.take_turn)]
    ending = threading.Event()
    faults = Faults(world, seed, ending.wait)
    breaking = [Background(each.__name__, each) for each in (faults.process, faults.server, faults.connection)]
    for thread in [*working, *watching, *breaking]:
        thread.start()
    world.watch(lambda: False, minutes * 60)
    ending.set()
    for thread in [*working, *breaking]:
        thread.stopping.set()
    ended = world.watch(lambda: not any(each.is_alive() for each in [*working, *breaking]), _THREAD_S)
    assert ended, [each.name for each in [*working, *breaking] if each.is_alive()]
    world.redis_proxy.set_mode(Mode.PASS)
    world.store_proxy.set_mode(Mode.PASS)
    return faults, [*working, *watching, *breaking]


def come_to_rest(world: World, ledger: Ledger, deleter: Deleter, report: Report) -> None:
    """Wait until all work has ended and the consumers of dead processes are removed."""

    def at_rest() -> bool:
        return deleter.idle and not ledger.open() and not unfinished(world) and not left_behind(world)

    if not world.watch(at_rest, _QUIET_S):
        report.unexpected.append(f"no rest after {_QUIET_S:g} s")


def stop(threads: list[Background], report: Report) -> None:
    for thread in threads:
        thread.stopping.set()
    for thread in threads:
        thread.join(_THREAD_S)
        if thread.failure is not None:
            report.unexpected.append(f"{thread.name}: {thread.failure!r}")


def main() -> int:
    """Return 0 if the run was good."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.random_run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--logs", type=Path, help="an existing folder to keep the replicas' logs in")
    arguments = parser.parse_args()
    report = run(arguments.seed, arguments.minutes, keep_logs=arguments.logs)
    print(*report.lines(), sep="\n")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
