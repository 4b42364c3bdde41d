"""One mutant against the tests: in a forked process, in which the mutated module is imported in place of the real one.

Forking spares each mutant the start of Python, pytest and Hypothesis; nothing is written to the checkout.
"""

from __future__ import annotations

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryFile

import pytest

# No more than these tests need, since the start of pytest is most of what a trial costs: no rewriting of assertions, no
# conftest.py, and of the plugins these. They are imported already, of which pytest warns; and a warning is an error.
PLUGINS = ("pytest_trio.plugin", "pytest_timeout", "_hypothesis_pytestplugin")
_OPTIONS = (
    *("-x", "-q", "--tb=no", "--assert=plain", "--noconftest", "--hypothesis-seed=0"),
    "--rootdir=.",  # names of tests are relative to it, and are given to pytest again
    *("-p", "no:cacheprovider", *(part for name in PLUGINS for part in ("-p", name))),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_ALL_PASSED = 0

Place = tuple[str, int]
"""A function: the name of its file, and its first line, with the decorators."""

_KILLERS = 6
_SPARE_CPU_S = 0.3
_SLOWDOWN = 4.0  # a test may use so many times the time that it needs without a mutant
_UNKNOWN_CPU_S = 10.0
_POLL_S = 0.2
# A mutant that waits for ever sleeps and uses no processor time.
_IDLE_S = 6.0
_MEMORY_BYTES = 4 << 30  # an endless loop that fills a list
_FIELDS = 4  # of a line that `Teller` writes
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Verdict(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"  # a test failed
    HUNG = "hung"  # it was ended: too much processor time, or none at all. As good as killed
    SURVIVED = "survived"


class Trials:
    """Runs the tests, in the order given, against one mutant after the other.

    What killed one mutant most often kills its neighbour: the tests that failed last are run first, in a process of
    their own, because pytest does not promise that a second run in one process finds what a first would. Then follow
    those that enter the changed function, the fastest first. For a change outside of functions all are run.
    """

    def __init__(self, tests: Sequence[str], idle_s: float = _IDLE_S) -> None:
        self._tests = tests
        self._idle_s = idle_s
        self._killers: list[str] = []
        self._cpu_s: dict[str, float] = {}  # test -> what it needs without a mutant
        self._enters: dict[str, set[Place]] = {}  # test -> the functions that it enters

    def measure(self, module: str, source: str) -> bool:
        """Try the original: whether all tests pass, as they must before `run`."""
        verdict, told = self._try(module, source, self._tests)
        for kind, test, cpu_s, places in told:
            if kind == "passed":
                self._cpu_s[test] = float(cpu_s)
                self._enters[test] = {(file, int(line)) for file, _, line in (p.partition(":") for p in places.split())}
        return verdict is Verdict.SURVIVED

    def run(self, module: str, source: str, function: Place | None = None) -> Verdict:
        """Run the tests up to the first failure with ``source`` as ``module``, in which ``function`` has changed.

        Raise RuntimeError if pytest failed although no test did: that says nothing about the mutant.
        """
        verdict, told = Verdict.SURVIVED, list[list[str]]()
        own = f"test_{module.rpartition('.')[2].lstrip('_')}.py"  # which may enter it in processes of their own
        concerned = [test for test, places in self._enters.items() if function in places or own in test]
        killers = [test for test in self._killers if not concerned or test in concerned]
        for tests in (killers, sorted(concerned, key=self._cpu_s.__getitem__) or self._tests):
            if tests and verdict is Verdict.SURVIVED:
                verdict, told = self._try(module, source, tests)
        failed = [test for kind, test, *_ in told if kind == "failed"]
        if verdict is Verdict.KILLED and not failed:
            raise RuntimeError(f"pytest failed without a failed test, at a mutant of {module}:\n{source}")
        # A folder that cannot be collected is no test: "" would stand for all tests of the checkout.
        named = [test for test in failed if ".py" in test]
        self._killers = list(dict.fromkeys([*named, *self._killers]))[:_KILLERS]
        return verdict

    def _try(self, module: str, source: str, tests: Sequence[str]) -> tuple[Verdict, list[list[str]]]:
        with TemporaryFile("w+") as told:
            pid = os.fork()
            if pid == 0:
                os._exit(self._in_child(module, source, tests, told.fileno()))
            verdict = _verdict(pid, self._idle_s)
            told.seek(0)
            fields = [line.rstrip("\n").split("\t") for line in told]  # and whatever a mutant has written
            return verdict, [each for each in fields if len(each) == _FIELDS]

    def _in_child(self, module: str, source: str, tests: Sequence[str], writer: int) -> int:
        """The exit status of pytest; one that is not 0 for whatever else goes wrong."""
        try:
            gc.freeze()  # what the parent has is no garbage: a large one would cost more time than the tests do
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # what tests/conftest.py would do
            sys.meta_path.insert(0, Substitute(module, source))
            teller = Teller(writer, self._cpu_s)
            return int(pytest.main([*_OPTIONS, *tests], [teller]))
        except BaseException:  # noqa: BLE001 - the end of this process: it must not run on as a second parent
            return 1


class Teller:
    """A plugin of pytest that writes the outcome of each test to a file. The kernel ends a test that loops for ever.

    While the original is measured, it also writes which functions each test enters.
    """

    def __init__(self, writer: int, cpu_s: Mapping[str, float]) -> None:
        self._writer = writer
        self._cpu_s = cpu_s
        self._began_at = 0.0
        self._now = ""
        self._entered: set[Place] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """See pytest."""
        # Processor time, as the machine may be busy; at its end SIGPROF ends the process.
        signal.setitimer(signal.ITIMER_PROF, _SPARE_CPU_S + _SLOWDOWN * self._cpu_s.get(nodeid, _UNKNOWN_CPU_S))
        self._began_at = time.process_time()
        self._now = nodeid
        if not self._cpu_s:
            self._entered.clear()
            threading.settrace(self._note_call)
            sys.settrace(self._note_call)

    def pytest_keyboard_interrupt(self, excinfo: object) -> None:
        """See pytest: it ends the run, and names no test."""
        self._tell("failed", self._now)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """See pytest."""
        if report.failed:  # the mutant cannot be imported, or a test file no longer fits it
            self._tell("failed", report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest."""
        if report.failed:
            self._tell("failed", report.nodeid)
        elif report.when == "call" and not self._cpu_s:
            self._tell("passed", report.nodeid)

    def _tell(self, kind: str, test: str) -> None:
        places = " ".join(f"{file}:{line}" for file, line in self._entered)
        os.write(self._writer, f"{kind}\t{test}\t{time.process_time() - self._began_at:.3f}\t{places}\n".encode())

    def _note_call(self, frame: types.FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if "supervisors/_" in code.co_filename:
            self._entered.add((code.co_filename.rpartition("/")[2], code.co_firstlineno))


def _verdict(pid: int, idle_s: float) -> Verdict:
    """Wait for the child; end it once it no longer moves."""
    descriptor = os.pidfd_open(pid)
    try:
        used, moved_at = -1.0, time.monotonic()
        while not select.select([descriptor], [], [], _POLL_S)[0]:
            now_used = _cpu_s(pid)
            if now_used > used or _wants_to_run(pid):
                used, moved_at = now_used, time.monotonic()
            elif time.monotonic() - moved_at > idle_s:
                os.kill(pid, signal.SIGKILL)
                break
    finally:
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Verdict.HUNG
    return Verdict.SURVIVED if os.waitstatus_to_exitcode(status) == _ALL_PASSED else Verdict.KILLED


def _wants_to_run(pid: int) -> bool:
    """Whether any of its threads is not asleep: it may only be kept waiting by the rest of the machine."""
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one of them has just ended
        return True
    return any(state != "S" for state in states)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


class Substitute(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another text; everything else about it is as it was."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """The real module's, with this loader."""
        if fullname != self._module:
            return None
        real = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert real is not None
        return importlib.util.spec_from_loader(fullname, self, origin=real.origin)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the other text."""
        assert module.__spec__ is not None
        exec(compile(self._source, str(module.__spec__.origin), "exec"), module.__dict__)
