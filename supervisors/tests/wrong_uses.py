"""Uses that a type checker must reject; `test_types` runs mypy on this file. Each line ends in the expected code."""

from __future__ import annotations

from functools import partial

import trio

from supervisors import Child, DynamicSupervisor, Node, Supervisor, Worker, nursery_task


async def port(child: Child[int]) -> None:
    child.started("8080")  # error: arg-type
    child.started(8080)


async def nothing(child: Child[None]) -> None:
    child.started()
    child.ready()  # error: attr-defined


async def double(number: int) -> int:
    return 2 * number


async def serve(number: int, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started(str(number))


async def main(worker: Worker[int], pool: DynamicSupervisor, root: Supervisor, node: Node[None]) -> None:
    text: str = worker.value  # error: assignment
    number: int = await worker.wait_started()
    print(text, number)
    wrong: Worker[str] = Worker("port", port)  # error: arg-type
    print(wrong)
    Worker("sync", print)  # error: arg-type
    Supervisor("app", [nothing])  # error: list-item
    Supervisor("app", strategy="one_for_all")  # error: arg-type
    await pool.call(double, "2")  # error: arg-type
    pool.start_task(double)  # error: arg-type
    result: str = await pool.start_task(double, 2).result()  # error: assignment
    print(result)
    started: str = await root.start(worker)  # error: arg-type
    print(started)
    await node.run()  # error: attr-defined
    root.start_task(double, 2)  # error: attr-defined
    Worker("serve", nursery_task(serve, "80", start=True))  # error: call-overload
    serving: Worker[int] = Worker("serve", nursery_task(serve, 80, start=True))  # error: call-overload
    print(serving)
    nursery_task(double, "2")  # error: arg-type
    await pool.map(double, ["2"], limit=3)  # error: arg-type
    await pool.map(double, [2])  # error: call-arg
    print(root.find("port").value + 1)  # error: operator
    Worker("plain", nursery_task(partial(trio.sleep, 1)), grace="5")  # error: call-arg
