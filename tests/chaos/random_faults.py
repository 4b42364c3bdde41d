"""The faults of the random chaos, of three kinds at once: processes, servers, connections. The seed chooses them."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.random_proxy import Mode, Proxy
from tests.chaos.random_world import CLAIM_AFTER_S, World

_DURING_A_START = 0.2  # otherwise nothing would ever run if a start takes longer than the pauses


@dataclass
class Fault:
    """One fault. Times are Unix seconds. ``in_hand`` are the media items that were in progress when it came."""

    kind: str
    began_at: float = field(default_factory=time.time)
    ended_at: float = 0.0
    in_hand: set[str] = field(default_factory=set)


class Faults:
    """Each method is one turn of one thread, and repairs everything at its end."""

    def __init__(self, world: World, seed: int, pause: Callable[[float], object]) -> None:
        """``pause`` waits so many seconds, or less at the end of the run."""
        self._world = world
        self._pause = pause
        self._processes = random.Random(f"{seed} processes")
        self._servers = random.Random(f"{seed} servers")
        self._connections = random.Random(f"{seed} connections")
        self.all: list[Fault] = []

    def process(self) -> None:
        """Kill a replica, or suspend it for longer than a lease."""
        chance = self._processes
        self._pause(chance.uniform(3, 10))
        replica = chance.choice(self._world.replicas)
        kind = chance.choice(["replica killed", "replica stopped"])
        hold_s = chance.uniform(1.3, 2.2) * CLAIM_AFTER_S
        pid = replica.pid
        if not pid or not (replica.ready() or chance.random() < _DURING_A_START):
            return
        fault = Fault(kind, in_hand=self._world.in_hand(replica))
        if kind == "replica killed":
            replica.signal(signal.SIGKILL)
        else:
            replica.signal(signal.SIGSTOP)
            time.sleep(hold_s)
            replica.signal(signal.SIGCONT)
            replica.stops.append((pid, time.time()))
        self._note(fault)

    def server(self) -> None:
        """Kill Redis or the store's gateway, and start it again."""
        chance = self._servers
        self._pause(chance.uniform(5, 15))
        which = chance.choice(["Redis", "store"])
        away_s = chance.uniform(0.2, 1.5 * CLAIM_AFTER_S)
        fault = Fault(f"{which} killed", in_hand=self._world.in_hand())
        if which == "Redis":
            self._world.redis.kill()
            time.sleep(away_s)
            self._world.start(self._world.redis.start)
        else:
            self._world.store.kill_gateway()
            time.sleep(away_s)
            self._world.start(self._world.store.start_gateway)
        self._note(fault)

    def connection(self) -> None:
        """Cut, delay or half-close the connections to Redis or to the store, or let them lose replies."""
        chance = self._connections
        self._pause(chance.uniform(1, 6))
        name, proxy = chance.choice(self._proxies())
        mode = chance.choice([mode for mode in Mode if mode is not Mode.PASS])
        hold_s = chance.uniform(0.2, 3)
        fault = Fault(f"{name}: {mode}", in_hand=self._world.in_hand())
        proxy.set_mode(mode, delay_s=chance.uniform(0.05, 0.5))
        time.sleep(hold_s)
        proxy.set_mode(Mode.PASS)
        self._note(fault)

    def _proxies(self) -> list[tuple[str, Proxy]]:
        return [("Redis", self._world.redis_proxy), ("store", self._world.store_proxy)]

    def _note(self, fault: Fault) -> None:
        fault.ended_at = time.time()
        self.all.append(fault)
