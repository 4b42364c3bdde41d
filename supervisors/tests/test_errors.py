from __future__ import annotations

import pytest
import trio

from supervisors import Killed, Shutdown, StartFailed, SupervisionError, TooManyRestarts
from supervisors._errors import is_fatal, is_shutdown, text_of

from .probes import leak_a_cancelled


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StartFailed("s/a"), "s/a failed to start"),
        (Killed("s/a"), "s/a was killed"),
    ],
)
def test_an_error_names_its_node(error: StartFailed | Killed, says: str) -> None:
    assert isinstance(error, SupervisionError)
    assert str(error) == says
    assert error.path == "s/a"


def test_an_escalation_names_the_supervisor_and_the_child() -> None:
    error = TooManyRestarts("s", "s/a", 3, 5.0)
    assert str(error) == "s: more than 3 restarts within 5 s, the last for s/a"
    assert (error.path, error.child) == ("s", "s/a")


def test_what_is_fatal() -> None:
    assert is_fatal(KeyboardInterrupt())
    assert is_fatal(SystemExit())
    assert is_fatal(BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [GeneratorExit()])]))
    assert not is_fatal(ValueError())
    assert not is_fatal(ExceptionGroup("", [ValueError(), OSError()]))


def test_a_shutdown_and_a_group_of_nothing_else() -> None:
    assert is_shutdown(Shutdown("done"))
    assert is_shutdown(ExceptionGroup("", [Shutdown("a"), ExceptionGroup("", [Shutdown("b")])]))
    assert not is_shutdown(ExceptionGroup("", [Shutdown("a"), ValueError()]))
    assert not is_shutdown(None)


async def test_a_leaked_cancellation_is_not_fatal() -> None:
    with pytest.raises(trio.Cancelled) as caught:
        await leak_a_cancelled()
    assert not is_fatal(caught.value)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("connection lost"), "OSError: connection lost"),
        (OSError(), "OSError"),
        (ExceptionGroup("both", [OSError("left"), ValueError()]), "ExceptionGroup: both [OSError: left; ValueError]"),
        (ValueError("x" * 488), "ValueError: " + "x" * 488),
        (ValueError("x" * 489), "ValueError: " + "x" * 487 + "…"),
    ],
)
def test_one_bounded_line(error: Exception, says: str) -> None:
    assert text_of(error) == says


def test_a_group_of_any_size_and_depth() -> None:
    """A crawler with one nursery for each level raises such a group; Python cannot recurse into it."""
    deep: Exception = ValueError("page not found")
    for _ in range(5_000):
        deep = ExceptionGroup("nursery", [deep])
    assert not is_fatal(deep)
    assert not is_shutdown(deep)
    assert text_of(deep) == "ExceptionGroup: nursery [ValueError: page not found]"
    wide = ExceptionGroup("wide", [ValueError(str(number)) for number in range(20_000)])
    assert text_of(wide).startswith("ExceptionGroup: wide [ValueError: 0; ValueError: 1; ")
    assert len(text_of(wide)) == 500
    assert is_fatal(BaseExceptionGroup("", [deep, KeyboardInterrupt()]))
