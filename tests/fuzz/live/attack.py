"""Attackers at work on a live server, and the judgement afterwards."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from tests.fuzz.session import Finding, Session

Connection = Callable[[random.Random], list[bytes]]
"""Makes what one attacker sends over one connection, in pieces."""
ATTACKERS = 4
_QUIET_S, _ATTACK_S = 0.5, 1.5
_SESSION_S = 1.0
_REST = 2.0  # an attacker rests for so many times as long as its connection took: else it would be a test of CPU speed
_SETTLE_S = 15.0  # for the server to let go of what was left open: its own limits are 5 s and less
_MAX_GROWTH_BYTES = 32 << 20
_WARM_UP_INPUTS = 200  # what is allocated once is allocated by then
_NICENESS = 10
_MAX_RATIO = 2.0  # of the good client's p99 under attack to that of a quiet time


@dataclass
class Program:
    """A program that answers each line by one JSON object."""

    process: subprocess.Popen[str]

    def ask(self) -> Any:
        """Its answer; `Finding` when it has died."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return json.loads(self.line() or "null")

    def line(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Finding(f"{self.process.args!r} ended with {self.process.wait(10)}")
        return line

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def program(module: str, *arguments: str) -> Iterator[Program]:
    """The program for the length of the block."""
    command = [sys.executable, "-m", f"tests.fuzz.live.{module}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def attack(session: Session, kind: str, connection: Connection) -> None:
    """Attack for the session's time, with a good client all along; `Finding` for a crash, a leak or a call that failed.

    Attacks and quiet times take turns, so that whoever else uses the machine slows both; the good client's p99 under
    attack is compared with that of the quiet times. In a long session the ratio is judged, by the better of two tries;
    in a short one it is only told. The attackers rest now and then, so that they do not simply keep the processors
    busy, which any client with valid calls could do as well. For the same reason they give way to the good client and
    the server: what is measured is how the server shares its time, not how the kernel shares the processors.
    """
    chances = [random.Random(f"{session.name}:{session.seed}:{number}") for number in range(ATTACKERS)]
    tries = [Try() for _ in range(2 if session.is_long else 1)]
    with program("server", kind) as server:
        port = int(server.line())
        with program("good_client", kind, str(port)) as good:
            trio.run(trio.sleep, 0.5)
            good.ask()
            server.ask()  # what only the first calls cost is over
            memory = _Memory(server)
            for number, each in enumerate(tries, 1):
                ends_at = session.ends_at - session.seconds * (1 - number / len(tries))
                while not each.attacked_ms or time.monotonic() < ends_at:
                    trio.run(trio.sleep, _QUIET_S)
                    each.quiet_ms += _calls(session, good)
                    _behind_all_others(lambda: trio.run(_all_attackers, session, port, connection, chances, memory))
                    each.attacked_ms += _calls(session, good)
            told = server.ask()
            session.figures["longest turn"] = f"{told['longest_turn_ms']:.1f} ms of CPU ({told['slowest']})"
            _settled(session, server)
            judge(session, tries, memory.growth_bytes)


def _behind_all_others(function: Callable[[], None]) -> None:
    """Run a function in a thread that gives way to every other program. On Linux niceness is the thread's own."""

    def run() -> None:
        os.nice(_NICENESS)
        function()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


@dataclass
class Try:
    """How long the good client's calls took in the quiet times, and under attack."""

    quiet_ms: list[float] = field(default_factory=list)
    attacked_ms: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the p99 under attack to that of the quiet times."""
        return _p99(self.attacked_ms) / _p99(self.quiet_ms)

    def __str__(self) -> str:
        return f"{_p99(self.attacked_ms):.1f} ms, quiet {_p99(self.quiet_ms):.1f} ms"


def _calls(session: Session, good: Program) -> list[float]:
    told = good.ask()
    if told["failures"] or not told["took_ms"]:
        raise Finding(f"{session.name}: the good client was not served, seed {session.seed}: {told['failures']}")
    took_ms: list[float] = told["took_ms"]
    return took_ms


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


class _Memory:
    """The server's memory once it is warm, and at the end."""

    def __init__(self, server: Program) -> None:
        self._server = server
        self.warm_bytes = 0

    def look(self, inputs: int) -> None:
        if not self.warm_bytes and inputs >= _WARM_UP_INPUTS:
            self.warm_bytes = self._server.memory_bytes

    @property
    def growth_bytes(self) -> int:
        return self._server.memory_bytes - self.warm_bytes if self.warm_bytes else 0


async def _all_attackers(
    session: Session, port: int, connection: Connection, chances: list[random.Random], memory: _Memory
) -> None:
    until = trio.current_time() + _ATTACK_S
    async with trio.open_nursery() as nursery:
        for chance in chances:
            nursery.start_soon(_attacker, session, port, connection, chance, memory, until)


async def _attacker(
    session: Session, port: int, connection: Connection, chance: random.Random, memory: _Memory, until: float
) -> None:
    while trio.current_time() < until:
        pieces = connection(chance)
        begun = trio.current_time()
        with trio.move_on_after(_SESSION_S):
            try:
                await _one_connection(port, pieces, chance.random() < 0.8)
            except (OSError, trio.BrokenResourceError):
                pass  # the server has had enough, as it may
        session.inputs += 1
        memory.look(session.inputs)
        await trio.sleep(_REST * (trio.current_time() - begun))


async def _one_connection(port: int, pieces: list[bytes], reads: bool) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        if reads:
            nursery.start_soon(_read_all, stream)
        for piece in pieces:
            await stream.send_all(piece)
            await trio.lowlevel.checkpoint()
        if reads:
            await stream.send_eof()
        else:
            nursery.cancel_scope.cancel()


async def _read_all(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(65_536):
            pass
    except (OSError, trio.BrokenResourceError):
        pass


def _settled(session: Session, server: Program) -> None:
    """Wait until nothing is left but the good client's own connection."""
    for _ in range(int(_SETTLE_S * 10)):
        told = server.ask()
        if told["defects"]:
            raise Finding(f"{session.name}: defects, seed {session.seed}: {told['defects'][:3]}")
        if max(told["held"].values()) <= 1:
            return
        trio.run(trio.sleep, 0.1)
    raise Finding(f"{session.name}: still held after {_SETTLE_S:g} s: {told['held']}, seed {session.seed}")


def judge(session: Session, tries: Sequence[Try], growth: int) -> None:
    """Note the figures; `Finding` when the server grew by too much, or the good client was slowed down in all tries."""
    best = min(tries, key=lambda each: each.ratio)
    session.figures |= {
        "memory": f"{growth / (1 << 20):+.1f} MiB",
        "good calls": sum(len(each.quiet_ms) + len(each.attacked_ms) for each in tries),
        "p99": best,
        "ratio": f"{best.ratio:.2f}",
    }
    if growth > _MAX_GROWTH_BYTES:
        raise Finding(f"{session.name}: the server grew by {growth >> 20} MiB, seed {session.seed}")
    if session.is_long and best.ratio >= _MAX_RATIO:
        raise Finding(f"{session.name}: the good client's p99 is {best.ratio:.2f} times that of a quiet time")
