"""Machines: each has a name, an address, a clock, and one program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import trio

from .clocks import WallClock
from .network.ends import Address
from .network.listening import Listening
from .processes import Process, current

if TYPE_CHECKING:
    from .simulation import Simulation

Main = Callable[..., Awaitable[Any]]

# The first that Linux gives to outgoing connections.
_FIRST_PORT = 32768


class Node:
    """One machine of a simulation, made by `Simulation.node`.

    Attributes:
      name: other nodes reach it by this name.
      address: its IPv4 address.
      powered: whether its kernel answers. A killed process leaves the machine on.
      process: what runs on it, or None.
    """

    def __init__(self, simulation: Simulation, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.powered = True
        self.process: Process | None = None
        self.clock = WallClock()
        self.listening: dict[Address, Listening] = {}
        self._simulation = simulation
        self._ports = count(_FIRST_PORT)
        self._program: tuple[Main, tuple[Any, ...], float | None] | None = None

    def __repr__(self) -> str:
        return f"<node {self.name}>"

    def next_port(self) -> int:
        """Return a port that nobody listens on, and that no connection of this node has had."""
        return next(self._ports)

    # --- its program

    def start(self, main: Main, *arguments: Any, restart_after_s: float | None = None) -> None:
        """Start the program of this node.

        Args:
          restart_after_s: it starts again that long after each end. Without it, an exception of the program ends the
            simulation, and a killed program stays down until `restart`.
        """
        if self.process is not None:
            raise RuntimeError(f"a program runs on {self.name} already")
        self._program = (main, arguments, restart_after_s)
        self._start()

    async def run(self, main: Main, *arguments: Any) -> Any:
        """Run a program on this node, and return what it returns.

        Raises:
          Killed: the node was killed meanwhile.
        """
        process = self._new_process()
        token = current.set(process)
        try:
            with process.scope:
                value = await main(*arguments)
                process.check()
                return value
            process.check()
        finally:
            current.reset(token)
            if process.alive:
                self._close(process)
        raise AssertionError("only a kill cancels the scope of a process")

    def restart(self) -> None:
        """Kill the program if it runs, and start it."""
        if self._program is None:
            raise RuntimeError(f"{self.name} has no program; call start first")
        self.kill()
        self._start()

    def kill(self) -> None:
        """Kill the program (SIGKILL): no call of its cleanup has an effect, and the kernel closes its connections."""
        self._kill(silently=False)

    def power_off(self) -> None:
        """Cut the power: like `kill`, but peers notice nothing until the node is on again."""
        self._kill(silently=True)
        self.powered = False

    def power_on(self) -> None:
        """Switch the machine on, and start its program."""
        if not self.powered:
            self.powered = True
            self._simulation.note(f"power on {self.name}")
            self._simulation.network.changed()
        if self.process is None and self._program is not None:
            self._start()

    # --- pauses and clocks

    def pause(self) -> None:
        """Stop the program (SIGSTOP). Its kernel still takes connections and data, until the buffers are full."""
        if self.process is not None and not self.process.stopped:
            self._simulation.note(f"pause {self.name}")
            self.process.stopped = True

    def resume(self) -> None:
        """Let the program go on (SIGCONT)."""
        if self.process is not None and self.process.stopped:
            self._simulation.note(f"resume {self.name}")
            self._simulation.let_run(self.process)

    def set_clock(self, *, skew_s: float | None = None, drift: float | None = None) -> None:
        """Set the wall clock ahead of the right time, or let it gain so many seconds each second. Both can be negative.

        Monotonic clocks and deadlines of Trio are not changed.
        """
        self._simulation.note(f"clock {self.name} {skew_s!r} {drift!r}")
        self.clock.change(trio.current_time(), skew_s=skew_s, drift=drift)

    # --- how

    def _new_process(self) -> Process:
        if self.process is not None:
            raise RuntimeError(f"a program runs on {self.name} already")
        if not self.powered:
            raise RuntimeError(f"{self.name} is off")
        self.process = Process(self, self._simulation.next_pid())
        self._simulation.note(f"start {self.name}")
        return self.process

    def _start(self) -> None:
        self._simulation.spawn(self._live, self._new_process())

    async def _live(self, process: Process) -> None:
        assert self._program is not None
        main, arguments, restart_after_s = self._program
        current.set(process)
        try:
            with process.scope:
                await main(*arguments)
        except Exception as error:
            if process.alive and restart_after_s is None:
                raise
            self._simulation.note(f"failed {self.name} {type(error).__name__}")
        finally:
            if process.alive:
                self._close(process)

    def _close(self, process: Process) -> None:
        self._simulation.note(f"exit {self.name}")
        self._end(process, silently=False)

    def _kill(self, *, silently: bool) -> None:
        process = self.process
        if process is not None:
            self._simulation.note(f"{'power off' if silently else 'kill'} {self.name}")
            self._end(process, silently=silently)
            process.scope.cancel()
            self._simulation.let_run(process)

    def _end(self, process: Process, *, silently: bool) -> None:
        process.alive = False
        process.ended.set()
        self.process = None
        for listening in list(process.listening):
            listening.close(silently=silently)
        for end in list(process.ends):
            if silently:
                end.vanish()
            else:
                end.close()
        if self._program is not None and self._program[2] is not None:
            self._simulation.spawn(self._restart_later, self._program[2])

    async def _restart_later(self, after_s: float) -> None:
        await trio.sleep(after_s)
        if self.powered and self.process is None:
            self._start()
