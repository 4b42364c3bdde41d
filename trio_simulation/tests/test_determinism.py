"""The same seed is the same run."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import date, datetime
from pathlib import Path

import pytest
import trio

import trio_simulation
from trio_simulation import Simulation, TrioChanged, attempt, run, scheduler

from . import echo


def test_the_same_seed_gives_the_same_hash_and_another_seed_another() -> None:
    runs = [attempt(echo.scenario, seed=seed, keep_trace=True) for seed in (1, 1, 2)]
    assert [each.error for each in runs] == [None] * 3
    assert runs[0].lines == runs[1].lines
    assert runs[0].digest == runs[1].digest != runs[2].digest


def test_the_hash_does_not_depend_on_the_hashes_of_strings() -> None:
    digests = {_digest_with(hash_seed) for hash_seed in ("0", "1", "4711")}
    assert digests == {attempt(echo.scenario, seed=5).digest}


def _digest_with(hash_seed: str) -> str:
    program = "from trio_simulation import attempt; import echo; print(attempt(echo.scenario, seed=5).digest)"
    environ = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(trio_simulation.__file__).parents[1])]),
    }
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_source_of_randomness_follows_the_seed() -> None:
    async def scenario(_simulation: Simulation) -> list[object]:
        return [
            random.random(),
            random.Random().random(),
            random.SystemRandom().random(),
            secrets.token_hex(),
            os.urandom(8),
            uuid.uuid1(),
            uuid.uuid4(),
            tempfile.mktemp(dir="/nowhere"),
        ]

    once, again, other = (run(scenario, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert all(one != another for one, another in zip(once, other, strict=True))


def test_the_clocks_are_virtual_and_right_again_afterwards() -> None:
    async def scenario(_simulation: Simulation) -> None:
        before = time.time(), time.monotonic(), time.perf_counter_ns(), datetime.now(), time.localtime()
        await trio.sleep(86400)
        assert time.time() - before[0] == pytest.approx(86400)
        assert time.monotonic() - before[1] == pytest.approx(86400)
        assert time.perf_counter_ns() - before[2] == pytest.approx(86400e9)
        assert (datetime.now() - before[3]).total_seconds() == pytest.approx(86400)
        assert date.today().isoformat() == "2027-01-16"
        assert isinstance(before[3], datetime)
        assert datetime(2020, 1, 1).year == 2020

    began_at, functions = time.monotonic(), (time.time, os.urandom, datetime, trio.to_thread.run_sync)
    run(scenario, seed=1, limit_s=100_000)
    assert time.monotonic() - began_at < 30
    assert (time.time, os.urandom, datetime, trio.to_thread.run_sync) == functions
    assert abs(datetime.now().timestamp() - time.time()) < 5
    assert random.Random(1).random() == random.Random(1).random()


def test_threads_take_virtual_time_and_are_bounded_by_their_limiter() -> None:
    async def scenario(_simulation: Simulation) -> None:
        limiter = trio.CapacityLimiter(2)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(lambda: trio.to_thread.run_sync(time.sleep, 10, limiter=limiter))
        assert trio.current_time() == pytest.approx(20, abs=0.01)
        with pytest.raises(ZeroDivisionError):
            await trio.to_thread.run_sync(lambda: 1 / 0)
        with trio.move_on_after(1) as scope:
            await trio.to_thread.run_sync(time.sleep, 5, abandon_on_cancel=True)
        assert scope.cancelled_caught
        with pytest.raises(RuntimeError, match="would stop the whole program"):
            time.sleep(1)  # noqa: ASYNC251  # this is what it must refuse

    run(scenario, seed=1)


def test_another_trio_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class FirstInFirstOut(random.Random):
        def shuffle(self, x: object) -> None:
            pass

    scheduler.check_trio.cache_clear()
    monkeypatch.setattr("trio._core._run._r", FirstInFirstOut())
    with pytest.raises(TrioChanged, match="does not order tasks by a seed"):
        attempt(echo.scenario, seed=1)


def test_a_queue_that_trio_does_not_use_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.check_trio.cache_clear()
    monkeypatch.setattr(scheduler, "install_run_queue", lambda: None)
    with pytest.raises(TrioChanged, match="cannot stop a process"):
        attempt(echo.scenario, seed=1)
