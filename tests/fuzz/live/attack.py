"""Attackers at work on a live server, and the judgement afterwards."""

from __future__ import annotations

import itertools
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
from functools import partial
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
_ADDRESS = itertools.count(1)
_MAX_RATIO = 2.0  # of the good client's p99 with its server attacked to that with the decoy attacked


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

    The attacks hit by turns the server that the good client calls, and a decoy: another one of the same kind, on the
    same machine. So whatever else keeps the processors busy, the attackers themselves above all, slows both, and the
    ratio of the good client's p99 between them is what the attacked server has to answer for. In a long session it is
    judged, by the better of two tries; in a short one it is only told, as is the p99 of quiet times. The attackers rest
    now and then, and run only on processors that nobody else wants, as if they were on other machines.
    """
    chances = [random.Random(f"{session.name}:{session.seed}:{number}") for number in range(ATTACKERS)]
    tries = [Try() for _ in range(2 if session.is_long else 1)]
    with program("server", kind) as server, program("server", kind) as other:
        victim, decoy = Victim(server), Victim(other)
        with program("good_client", kind, str(victim.port)) as good:
            trio.run(trio.sleep, 0.5)
            good.ask()
            server.ask()  # what only the first calls cost is over
            for number, each in enumerate(tries, 1):
                ends_at = session.ends_at - session.seconds * (1 - number / len(tries))
                while not each.attacked_ms or time.monotonic() < ends_at:
                    trio.run(trio.sleep, _QUIET_S)
                    each.quiet_ms += _calls(session, good)
                    for target, took_ms in ((victim, each.attacked_ms), (decoy, each.decoyed_ms)):
                        _behind_all_others(partial(trio.run, _all_attackers, target, connection, chances))
                        took_ms += _calls(session, good)
            session.inputs += victim.inputs
            told = server.ask()
            session.figures["longest turn"] = f"{told['longest_turn_ms']:.1f} ms of CPU ({told['slowest']})"
            _settled(session, server)
            judge(session, tries, victim.growth_bytes)


def _behind_all_others(function: Callable[[], None]) -> None:
    """Run a function in a thread that gives way to every other program. On Linux the policy is the thread's own."""

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        function()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


@dataclass
class Try:
    """How long the good client's calls took: in quiet times, with its server attacked, and with the decoy attacked."""

    quiet_ms: list[float] = field(default_factory=list)
    attacked_ms: list[float] = field(default_factory=list)
    decoyed_ms: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the p99 with its server attacked to that with the decoy attacked."""
        return _p99(self.attacked_ms) / _p99(self.decoyed_ms)

    def __str__(self) -> str:
        attacked, decoyed, quiet = map(_p99, (self.attacked_ms, self.decoyed_ms, self.quiet_ms))
        return f"{attacked:.1f} ms, decoy {decoyed:.1f} ms, quiet {quiet:.1f} ms"


def _calls(session: Session, good: Program) -> list[float]:
    told = good.ask()
    if told["failures"] or not told["took_ms"]:
        raise Finding(f"{session.name}: the good client was not served, seed {session.seed}: {told['failures']}")
    took_ms: list[float] = told["took_ms"]
    return took_ms


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


class Victim:
    """A server under attack: what it was sent, and its memory once it is warm, and at the end."""

    def __init__(self, server: Program) -> None:
        self.port = int(server.line())
        self.inputs = 0
        self._server = server
        self._warm_bytes = 0

    def took(self) -> None:
        """One more connection is over."""
        self.inputs += 1
        if not self._warm_bytes and self.inputs >= _WARM_UP_INPUTS:
            self._warm_bytes = self._server.memory_bytes

    @property
    def growth_bytes(self) -> int:
        """How much more memory it has than when it was warm."""
        return self._server.memory_bytes - self._warm_bytes if self._warm_bytes else 0


async def _all_attackers(victim: Victim, connection: Connection, chances: list[random.Random]) -> None:
    until = trio.current_time() + _ATTACK_S
    async with trio.open_nursery() as nursery:
        for chance in chances:
            nursery.start_soon(_attacker, victim, connection, chance, until)


async def _attacker(victim: Victim, connection: Connection, chance: random.Random, until: float) -> None:
    while trio.current_time() < until:
        pieces = connection(chance)
        begun = trio.current_time()
        with trio.move_on_after(_SESSION_S):
            try:
                await _one_connection(victim.port, pieces, chance.random() < 0.8)
            except (OSError, trio.BrokenResourceError):
                pass  # the server has had enough, as it may
        victim.took()
        await trio.sleep(_REST * (trio.current_time() - begun))


async def _one_connection(port: int, pieces: list[bytes], reads: bool) -> None:
    # From one address after another, because the flood budget of one would soon keep all later attacks out.
    address = f"127.1.{next(_ADDRESS) % 250}.1"
    stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=address)
    async with stream, trio.open_nursery() as nursery:
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
        "good calls": sum(len(each.quiet_ms) + len(each.attacked_ms) + len(each.decoyed_ms) for each in tries),
        "p99": best,
        "ratio": f"{best.ratio:.2f}",
    }
    if growth > _MAX_GROWTH_BYTES:
        raise Finding(f"{session.name}: the server grew by {growth >> 20} MiB, seed {session.seed}")
    if session.is_long and best.ratio >= _MAX_RATIO:
        raise Finding(f"{session.name}: the good client's p99 is {best.ratio:.2f} times that with the attack elsewhere")
