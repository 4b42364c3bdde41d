"""Dynamic children of `supervisors` started at once: twice as many should take twice the time, not four times."""

from __future__ import annotations

import time

import trio
from trio.testing import wait_all_tasks_blocked

from supervisors import DynamicSupervisor, Supervisor, open_tree
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.setting import Setting

_CHILDREN = 4000


def measure(setting: Setting) -> list[Figure]:
    """CPU time until all of them run."""
    rounds, children = (1, 40) if setting.quick else (7, _CHILDREN)
    pairs = Pairs.taken(rounds, lambda: _start_s(2 * children), lambda: _start_s(children))
    return [pairs.figure(f"{2 * children} dynamic children started at once, vs {children}", "s", Goal(2.5))]


def _start_s(children: int) -> float:
    async def main() -> float:
        pool = DynamicSupervisor("pool")
        async with open_tree(Supervisor("app", [pool])):
            begun = time.thread_time()
            for _ in range(children):
                pool.start_task(trio.sleep_forever)
            await wait_all_tasks_blocked()
            return time.thread_time() - begun

    return trio.run(main)
