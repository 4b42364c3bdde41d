"""Fuzzing a function that takes bytes: no exception but those it declares, and bounds on time and memory."""

from __future__ import annotations

import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.fuzz.mutation import mutated
from tests.fuzz.session import Finding, Session, Target

_KIB = 1024


def parser_target(
    name: str,
    seeds: Callable[[], Sequence[bytes]],
    feed: Callable[[bytes], object],
    *,
    allowed: tuple[type[Exception], ...] = (),
    max_bytes: int = 64 << 10,
    max_cpu_s: float = 2.0,
    max_growth_bytes: int = 256 << 20,
    weight: float = 1.0,
) -> Target:
    """A target that gives ``feed`` the seeds as they are, then mutations of them.

    ``allowed`` are the exceptions that ``feed`` declares. One input may use ``max_cpu_s`` seconds of CPU time (far more
    than any needs, so that a busy machine changes nothing), the whole run may let the process grow by
    ``max_growth_bytes``. Inputs are cut to ``max_bytes``.
    """

    def run(session: Session) -> None:
        corpus = [seed[:max_bytes] for seed in seeds()]
        grown_from = _peak_bytes()
        for seed in corpus:
            _feed_one(session, feed, seed, allowed, max_cpu_s)
        while not session.time_is_up:
            _feed_one(session, feed, mutated(corpus, session.chance, max_bytes), allowed, max_cpu_s)
        growth = _peak_bytes() - grown_from
        session.figures |= {"seeds": len(corpus), "memory": f"+{growth >> 20} MiB"}
        if growth > max_growth_bytes:
            raise Finding(f"{session.name}: the process grew by {growth >> 20} MiB")

    return Target(name, run, weight)


def _feed_one(
    session: Session,
    feed: Callable[[bytes], object],
    data: bytes,
    allowed: tuple[type[Exception], ...],
    max_cpu_s: float,
) -> None:
    session.inputs += 1
    try:
        with _cpu_bounded(max_cpu_s):
            feed(data)
    except allowed:
        pass
    except _TooSlow:
        raise Finding(f"{session.name}: more than {max_cpu_s:g} CPU seconds for {session.keep(data)}") from None
    except Exception as error:
        lines = "".join(traceback.format_exception(error))
        raise Finding(f"{session.name}: {error!r} for {session.keep(data)}\n{lines}") from error


class _TooSlow(BaseException):
    """Not an Exception, so that the code under test does not swallow it."""


@contextmanager
def _cpu_bounded(seconds: float) -> Iterator[None]:
    """Interrupt what takes more CPU time. Not SIGALRM: that one is pytest-timeout's."""

    def interrupt(_number: int, _frame: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
