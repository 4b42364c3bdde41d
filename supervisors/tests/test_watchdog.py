"""A stop that hangs ends the process, which says where it hung; one that ends in time is left alone."""

from __future__ import annotations

import faulthandler
import math
import os
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from supervisors import Child, Supervisor, Watchdog, Worker, _watchdog, open_tree

_LONG_S = 60.0


async def _stop(watchdog: Watchdog, how: str = "ends") -> None:
    """Run and stop a tree whose only child is stopped like this."""

    async def the_child(child: Child[None]) -> None:
        child.started()
        await child.stopping.wait()
        if how == "ends":
            await trio.sleep(0.01)
        elif how == "blocks":
            time.sleep(_LONG_S)  # noqa: ASYNC251 - it hangs
        elif how == "keeps the interpreter":
            re.match("(a|aa)+$", "a" * 100 + "b")
        else:
            with trio.CancelScope(shield=True):
                await trio.sleep(_LONG_S)

    root = Supervisor("root", [Worker("child", the_child, grace_s=1)])
    with watchdog.watching():
        async with open_tree(root):
            watchdog.arm()
            root.stop()


def _hang(how: str, name: str = "") -> None:
    trio.run(_stop, Watchdog(0.3, name) if name else Watchdog(0.3), how)


def _hang_without_a_reader() -> None:
    """Standard error is a full pipe."""
    _, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.dup2(writer, 2)
    _hang("blocks")


def _go_on_afterwards() -> None:
    """Longer than the budget and all that would follow it."""
    watchdog = Watchdog(0.2)
    trio.run(_stop, watchdog)
    watchdog.arm()
    time.sleep(0.5)


def _watch_only() -> None:
    """A timer of the program itself goes on."""
    watchdog = Watchdog(0)

    async def run() -> None:
        watchdog.arm()
        with watchdog.watching():
            await trio.lowlevel.checkpoint()

    faulthandler.dump_traceback_later(0.2, exit=True, file=2)
    trio.run(run)
    watchdog.arm()
    time.sleep(_LONG_S)


def _leave_nothing() -> None:
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []

    async def run() -> None:
        with Watchdog(math.inf).watching():
            assert [each.daemon for each in threading.enumerate() if each.name == "watchdog"] == [True]
        await _stop(Watchdog(_LONG_S))
        await _stop(Watchdog(math.inf))

    trio.run(run)
    assert [each for each in threading.enumerate() if each.name == "watchdog"] == []
    assert not before or os.listdir("/proc/self/fd") == before


def _forked(function: Callable[..., None], errors: Path, *arguments: str) -> tuple[int, str]:
    """Run it in a fork of this process, as mutants are in memory only. Return its status and its errors."""
    with warnings.catch_warnings(), errors.open("wb") as file:
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of pytest: the child needs none of them
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            os.dup2(file.fileno(), 2)
            try:
                function(*arguments)
            except BaseException:  # noqa: BLE001 - else the child would go on as a second pytest
                os._exit(3)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), errors.read_text()


@pytest.mark.parametrize(
    ("how", "name", "prefix"),
    [
        ("blocks", "", ""),
        ("shields itself", "a \udcff program", "a ? program: "),  # as os.fsdecode reads what is no UTF-8
    ],
)
def test_a_process_that_hangs_is_ended_and_says_where(how: str, name: str, prefix: str, tmp_path: Path) -> None:
    status, errors = _forked(_hang, tmp_path / "errors", how, name)
    assert status == 70, errors
    assert errors.startswith(f"{prefix}not ended 0.3 s after the stop began; tasks and threads:\n")
    assert "Thread 0x" in errors
    assert "task child" in errors
    assert "the_child" in errors


def test_it_is_ended_also_when_nobody_reads_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "_DUMP_S", 0.1)
    assert _forked(_hang_without_a_reader, tmp_path / "errors") == (70, "")


def test_it_is_ended_also_when_nothing_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "_LAST_RESORT_S", 0.1)
    status, errors = _forked(_hang, tmp_path / "errors", "keeps the interpreter")
    assert status == 1, errors
    assert errors.startswith("Timeout (0:00:00.4")
    assert "the_child" in errors


def test_a_process_that_ends_in_time_may_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watchdog, "_LAST_RESORT_S", 0.1)
    assert _forked(_go_on_afterwards, tmp_path / "errors") == (0, "")


def test_unless_it_is_armed_it_does_nothing(tmp_path: Path) -> None:
    status, errors = _forked(_watch_only, tmp_path / "errors")
    assert status == 1, errors
    assert errors.startswith("Timeout (0:00:00.2")


def test_no_thread_and_no_descriptor_remains(tmp_path: Path) -> None:
    assert _forked(_leave_nothing, tmp_path / "errors") == (0, "")
