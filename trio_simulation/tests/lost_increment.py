# lost_increment.py
"""Three machines count together. Each reads the counter, adds one and writes it; with --repaired, Redis adds."""

import random
import sys

import trio

from trio_simulation import FaultPlan, Simulation, main
from trio_simulation.redis import RedisModel

# --- The program under test. It knows nothing of the simulation.


async def call(stream: trio.SocketStream, command: bytes) -> bytes:
    """Send a command to Redis, and return the line that it replies, or the number in it."""
    words = command.split()
    await stream.send_all(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    reply = bytearray()
    while not reply.endswith(b"\r\n"):
        reply += await stream.receive_some()
    return bytes(reply).split()[-1]


async def add_one(stream: trio.SocketStream, repaired: bool) -> None:
    """Count to one more."""
    if repaired:
        await call(stream, b"INCR counter")
    else:
        value = await call(stream, b"GET counter")
        await call(stream, b"SET counter %d" % (int(value) + 1))


async def count(repaired: bool) -> None:
    """Count twice, with a pause before each."""
    async with await trio.open_tcp_stream("redis", 6379) as stream:
        for _ in range(2):
            await trio.sleep(random.uniform(1, 3))
            await add_one(stream, repaired)


# --- The scenario: which machines there are, what may happen to them, and what must be true in the end.


class CounterLost(Exception):
    """The counter is lower than what was acknowledged."""


async def scenario(simulation: Simulation) -> None:
    """Three machines count to six."""
    redis = RedisModel()
    simulation.node("redis").start(redis.serve)
    await trio.sleep(1)
    redis.call("SET", "counter", 0)
    async with trio.open_nursery() as nursery:
        for name in plan.nodes:
            nursery.start_soon(simulation.node(name).run, count, "--repaired" in sys.argv)
    value = int(redis.call("GET", "counter"))
    if value != 6:
        raise CounterLost(f"6 increments were acknowledged, the counter is {value}")


# Machines stand still, and packets are late. None of them loses anything.
plan = FaultPlan(nodes=["one", "two", "three"], span_s=6, mean_pause_s=2, kinds=["pause", "slow"])

if __name__ == "__main__":
    sys.exit(main(scenario, plan, arguments=[each for each in sys.argv[1:] if each != "--repaired"]))
