"""`make scale`: what a backlog of a million tasks costs, compared with one of a thousand.

usage: python -m tests.scale [--tasks N] [--rounds N]

There are so many queued tasks, delayed tasks, tenants and dead letters. It prints the CPU time of one task, of the
service and of Redis, beside both backlogs in turn; then the memory of the whole service, with all roles, while it works
on such a backlog. Redis needs about 3 GB.
"""

from __future__ import annotations

import argparse
import sys
import time

import redis as redis_py
import trio

from avion_media.backends.queue import QueueKeys
from avion_media.common.tasks import DELETE_QUEUE, PROCESSING_QUEUE
from tests.bench.processes import pss_bytes, watching_memory
from tests.bench.setting import Setting, open_setting
from tests.scale.backlog import fill_dead_letters, fill_delayed, fill_queue
from tests.scale.costs import MOST_DEAD_LETTERS, Measured, measure
from tests.service.harness import running_program
from tests.services import ServiceFailed, redis_server

MOST_GROWTH = 1.2
_FEW = 1000
_WATCHED_S = 30.0  # includes the first sweep
_USAGE_ERROR = 2


def main() -> int:
    """Return 0 if the statistics of the queue are right, and no step costs Redis much more beside the long backlog."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=500)
    arguments = parser.parse_args()
    try:
        with open_setting(quick=False) as setting:
            with redis_server() as other_url:
                backlogs = [(other_url, _FEW), (setting.redis_url, arguments.tasks)]
                few, many = trio.run(measure, backlogs, arguments.rounds)
            grown = _print_costs(few, many)
            for count in (_FEW, arguments.tasks):
                _print_memory(setting, count)
    except ServiceFailed as error:
        print(f"a service could not be started: {error}", file=sys.stderr)
        return _USAGE_ERROR
    for name in grown:
        print(f"more than {MOST_GROWTH:g} times: {name}", file=sys.stderr)
    return 0 if all(_is_right(each) for each in (few, many)) and not grown else 1


def _is_right(measured: Measured) -> bool:
    tasks, deletions = measured.tasks, measured.deletions
    dead_letters = min(measured.count, MOST_DEAD_LETTERS)
    return (tasks.depth, tasks.lag, deletions.delayed, tasks.dead_letters) == (*[measured.count] * 3, dead_letters)


def _print_costs(few: Measured, many: Measured) -> list[str]:
    """Print all costs. Return the steps that cost Redis too much more beside the long backlog."""
    grown = []
    for each in (few, many):
        print(
            f"{each.count:>9} queued: depth {each.tasks.depth}, oldest {each.tasks.oldest_age_s:.0f} s, delayed"
            f" {each.deletions.delayed}, dead letters {each.tasks.dead_letters}"
        )
    print(f"\n{'CPU time, µs':<48}{'ours':>16}{'ratio':>8}{'Redis':>16}{'ratio':>8}")
    for name in few.costs:
        at_few, at_many = few.cost(name), many.cost(name)
        if at_many.server > MOST_GROWTH * at_few.server:
            grown.append(name)
        print(
            f"{name:<48}{f'{at_few.ours:.0f} → {at_many.ours:.0f}':>16}{at_many.ours / at_few.ours:>8.2f}"
            f"{f'{at_few.server:.0f} → {at_many.server:.0f}':>16}{at_many.server / at_few.server:>8.2f}"
        )
    print()
    return grown


def _print_memory(setting: Setting, count: int) -> None:
    with redis_py.Redis.from_url(setting.redis_url, decode_responses=True) as client:
        client.flushall()
        fill_queue(client, PROCESSING_QUEUE, count)
        fill_delayed(client, QueueKeys(DELETE_QUEUE).delayed, count)
        fill_dead_letters(client, QueueKeys(PROCESSING_QUEUE).dead_letters, count)
        with running_program(setting.service_environment()) as service, watching_memory(service.process.pid) as memory:
            time.sleep(_WATCHED_S)
            settled = pss_bytes(service.process.pid)
            swept = "done" if client.hexists("media_sweep", "finished_at") else "under way"
            left = client.xlen(PROCESSING_QUEUE)
    print(
        f"{count:>9} queued: service, all roles, after {_WATCHED_S:.0f} s {settled / 1e6:.0f} MB, at most"
        f" {memory.peak_bytes / 1e6:.0f} MB; {count - left} tasks ended, reconciliation {swept}"
    )


if __name__ == "__main__":
    sys.exit(main())
