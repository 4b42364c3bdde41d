"""Where a task waits, for people who look for what does not stop."""

from __future__ import annotations

import traceback

import trio

_MAX_TASKS = 10  # enough to see what they have in common


def stack_of(task: trio.lowlevel.Task) -> str:
    """Return the stack of a task, and those of the tasks in its nurseries: one line for each frame and its code."""
    lines: list[str] = []
    left = [task]
    while left and len(lines) < _MAX_TASKS:
        each = left.pop()
        try:
            frames = traceback.StackSummary.extract(each.iter_await_frames()).format()
        except Exception as error:  # noqa: BLE001 - an awaitable that Trio cannot look into
            frames = [f"  cannot be shown: {error!r}\n"]
        lines.append(f"task {each.name}\n{''.join(frames)}")
        left += [child for nursery in each.child_nurseries for child in nursery.child_tasks]
    return "".join(lines).rstrip()
