"""Where a task waits, as text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from unittest.mock import Mock

import trio

from supervisors._errors import stack_of

from .probes import settled


async def stack_with(*children: Callable[[], Awaitable[None]]) -> str:
    """The stack of a task with these in its nursery."""

    async def parent(task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
        async with trio.open_nursery() as below:
            for child in children:
                below.start_soon(child)
            task_status.started(trio.lowlevel.current_task())

    async with trio.open_nursery() as nursery:
        task = await nursery.start(parent)
        await settled()
        nursery.cancel_scope.cancel()
        return stack_of(task)


async def test_a_stack_has_one_line_for_each_frame_and_its_code() -> None:
    lines = (await stack_with(trio.sleep_forever)).splitlines()
    tasks = [number for number, line in enumerate(lines) if line.startswith("task ")]
    assert ["parent" in lines[tasks[0]], "sleep_forever" in lines[tasks[1]]] == [True, True]
    assert "in parent" in lines[tasks[0] + 1]
    assert "in sleep_forever" in lines[tasks[1] + 1]


async def test_of_many_tasks_some_are_shown() -> None:
    stack = await stack_with(*[trio.sleep_forever] * 12)
    assert sum(line.startswith("task ") for line in stack.splitlines()) == 10


def test_a_task_that_trio_cannot_look_into() -> None:
    task = Mock(spec=trio.lowlevel.Task, child_nurseries=[])
    task.name = "odd"
    task.iter_await_frames.side_effect = TypeError("no frame")
    assert stack_of(task) == "task odd\n  cannot be shown: TypeError('no frame')"
