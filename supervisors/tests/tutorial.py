"""The program of the tutorial in docs/supervisors-guide.md. Run it: python -m supervisors.tests.tutorial"""

from __future__ import annotations

import signal
from functools import partial

import trio

from supervisors import Child, DynamicSupervisor, Intensity, Strategy, Supervisor, TaskFailed, Worker

Counts = dict[str, int]


# Step 1: a worker with a started value
async def store(child: Child[Counts]) -> None:
    counts: Counts = {}  # a real one opens a file or a connection here
    child.started(counts)  # the start is done; others get the value
    await child.stopping.wait()
    print(f"saved {sum(counts.values())}")  # there are `grace_s` seconds for this


# Step 2: a worker that depends on another, with a task for each connection
async def count(counts: Worker[Counts], stream: trio.SocketStream) -> None:
    name = (await stream.receive_some(100)).decode().strip()
    counts.value[name] = counts.value.get(name, 0) + 1
    await stream.send_all(f"{name} {counts.value[name]}\n".encode())


async def web(counts: Worker[Counts], connections: DynamicSupervisor, child: Child[int]) -> None:
    async def accept(stream: trio.SocketStream) -> None:
        try:
            await connections.call(count, counts, stream)
        except TaskFailed as error:
            print(f"{error}: {error.__cause__!r}")  # one client, not the server

    listeners = await trio.open_tcp_listeners(child.last_value or 0, host="127.0.0.1")
    child.started(listeners[0].socket.getsockname()[1])  # a restart keeps the port
    with child.until_stopping():
        await trio.serve_listeners(accept, listeners)


# Step 3: the tree
def build() -> Supervisor:
    counts = Worker("store", store, grace_s=2)
    connections = DynamicSupervisor("connections", max_children=100, grace_s=5)
    server = Worker("web", partial(web, counts, connections))
    # Without its store, the server restarts too: those right of a failed child.
    return Supervisor(
        "shop", [counts, connections, server], strategy=Strategy.REST_FOR_ONE, intensity=Intensity(5, within_s=60)
    )


# Step 4: the process
async def stop_at_signals(root: Supervisor) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            root.stop()
            break
        async for _ in signals:
            root.stop(grace_s=0)  # the second signal ends every grace


async def main() -> None:
    root = build()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signals, root)
        await root.run()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
