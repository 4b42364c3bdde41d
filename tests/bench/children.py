"""Children of `supervisors`, static and in a pool: twice as many should take twice the time, not four times."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio
from trio.testing import wait_all_tasks_blocked

from supervisors import Child, DynamicSupervisor, Supervisor, Worker, open_tree
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.setting import Setting

_CHILDREN = 4000
_RATIO = Goal(2.3)
_MAX_MS = Goal(0.12, of="ours")


def measure(setting: Setting) -> list[Figure]:
    """CPU time until all run, in a pool; until all have run and stopped, below a static supervisor."""
    rounds, children = (1, 40) if setting.quick else (7, _CHILDREN)
    return [
        *_compared("dynamic children started at once", _pool_s, rounds, children),
        *_compared("static children started and stopped", _static_s, rounds, children)[:1],
    ]


def _compared(what: str, take_s: Callable[[int], float], rounds: int, children: int) -> list[Figure]:
    pairs = Pairs.taken(rounds, lambda: take_s(2 * children), lambda: take_s(children))
    each_ms = 1000 * min(ours for ours, _ in pairs.rounds) / (2 * children)
    return [
        pairs.figure(f"{2 * children} {what}, vs {children}", "s", _RATIO),
        Figure(f"one of {2 * children} {what}", "ms", each_ms, goal=_MAX_MS),
    ]


def _pool_s(children: int) -> float:
    async def main() -> float:
        pool = DynamicSupervisor("pool")
        async with open_tree(Supervisor("app", [pool])):
            begun = time.thread_time()
            for _ in range(children):
                pool.start_task(trio.sleep_forever)
            await wait_all_tasks_blocked()
            return time.thread_time() - begun

    return trio.run(main)


async def _idle(child: Child[None]) -> None:
    child.started()
    await child.stopping.wait()


def _static_s(children: int) -> float:
    async def main() -> float:
        root = Supervisor("app", [Worker(f"child-{number}", _idle) for number in range(children)])
        begun = time.thread_time()
        async with open_tree(root):
            pass
        return time.thread_time() - begun

    return trio.run(main)
