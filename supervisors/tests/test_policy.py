from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors import AutoShutdown, Backoff, Intensity, Restart, SpecError, Strategy
from supervisors._policy import RestartWindow, restart_group


def test_groups() -> None:
    assert list(restart_group(Strategy.ONE_FOR_ONE, "abcd", "b")) == ["b"]
    assert list(restart_group(Strategy.ONE_FOR_ALL, "abcd", "b")) == list("abcd")
    assert list(restart_group(Strategy.REST_FOR_ONE, "abcd", "b")) == list("bcd")
    assert list(restart_group(Strategy.REST_FOR_ONE, "abcd", "d")) == ["d"]


def test_window_admits_exactly_max_restarts() -> None:
    window = RestartWindow(Intensity(max_restarts=3, within_s=5.0))
    assert [window.admit(now) for now in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]


def test_window_slides_and_its_edge_belongs_to_it() -> None:
    window = RestartWindow(Intensity(max_restarts=1, within_s=5.0))
    assert window.admit(0.0)
    assert window.admit(5.25)
    assert not window.admit(10.25)
    assert window.admit(15.5)


def test_intensity_of_zero_admits_nothing() -> None:
    assert not RestartWindow(Intensity(max_restarts=0)).admit(1.0)


def test_a_window_keeps_no_more_than_it_needs() -> None:
    endless, limited = RestartWindow(Intensity(math.inf, math.inf)), RestartWindow(Intensity(3, math.inf))
    for number in range(100):
        assert endless.admit(float(number))
        assert limited.admit(float(number)) is (number < 3)
    assert (len(endless._times), len(limited._times)) == (0, 4)


@given(st.lists(st.floats(0, 10), max_size=40), st.integers(0, 5), st.floats(0.1, 20))
def test_window_refuses_exactly_when_a_naive_count_does(gaps: list[float], limit: int, within_s: float) -> None:
    window, times, now = RestartWindow(Intensity(limit, within_s)), [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
        assert window.admit(now) is (sum(now - time <= within_s for time in times) <= limit)


def test_backoff_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(first_s=1.0, max_s=5.0, factor=2.0, jitter=0.0)
    assert [backoff.delay_s(failures, 0.5) for failures in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay_s(10**9, 0.5) == 5.0  # 2 ** 10**9 is more than a float can be


def test_jitter_only_shortens() -> None:
    backoff = Backoff(first_s=1.0, max_s=5.0, factor=2.0, jitter=0.5)
    assert backoff.delay_s(2, 0.0) == 2.0
    assert backoff.delay_s(2, 0.5) == 1.5
    assert backoff.delay_s(9, 0.5) == 3.75


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.floats(0, 1e3), st.floats(1, 1e6), st.floats(0, 1))
def test_backoff_is_clamped(failures: int, chance: float, first_s: float, factor: float, jitter: float) -> None:
    delay = Backoff(first_s=first_s, max_s=1e3, factor=factor, jitter=jitter).delay_s(failures, chance)
    assert 0 <= delay <= 1e3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"first_s": -0.1}, "first_s must be at least 0 s, not -0.1"),
        ({"first_s": "1"}, "first_s must be a number, not '1'"),
        ({"first_s": True}, "first_s must be a number, not True"),
        ({"first_s": math.nan}, "first_s must be at least 0 s, not nan"),
        ({"first_s": 3.0, "max_s": 2.0}, "max_s must be finite and at least first_s, not 2.0"),
        ({"max_s": math.inf}, "max_s must be finite and at least first_s, not inf"),
        ({"max_s": math.nan}, "max_s must be at least 0 s, not nan"),
        ({"max_s": "5"}, "max_s must be a number, not '5'"),
        ({"factor": 0.9}, "factor must be at least 1, not 0.9"),
        ({"factor": math.inf}, "factor must be at least 1, not inf"),
        ({"factor": "2"}, "factor must be a number, not '2'"),
        ({"factor": math.nan}, "factor must be at least 1, not nan"),
        ({"jitter": -0.1}, "jitter must be between 0 and 1, not -0.1"),
        ({"jitter": 1.1}, "jitter must be between 0 and 1, not 1.1"),
        ({"jitter": True}, "jitter must be a number, not True"),
        ({"jitter": None}, "jitter must be a number, not None"),
        ({"healthy_after_s": -1}, "healthy_after_s must be at least 0 s, not -1"),
    ],
)
def test_faulty_backoff(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        Backoff(**fields)
    assert str(caught.value) == says


def test_limits_of_backoff() -> None:
    assert Backoff(first_s=0, max_s=0, factor=1, jitter=1, healthy_after_s=0).delay_s(7, 0.9) == 0.0
    assert [Backoff(0, 0).delay_s(failures, 0.0) for failures in (1, 2, 10**9)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"max_restarts": -1}, "max_restarts must be a whole number of at least 0 or infinite, not -1"),
        ({"max_restarts": 1.5}, "max_restarts must be a whole number of at least 0 or infinite, not 1.5"),
        ({"max_restarts": True}, "max_restarts must be a number, not True"),
        ({"within_s": 0}, "within_s must be more than 0 s, not 0"),
        ({"within_s": -1}, "within_s must be more than 0 s, not -1"),
    ],
)
def test_faulty_intensity(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        Intensity(**fields)
    assert str(caught.value) == says


def test_defaults_are_those_of_the_documentation() -> None:
    assert Intensity() == Intensity(max_restarts=3, within_s=5.0)
    assert Backoff() == Backoff(first_s=0.1, max_s=1.0, factor=2.0, jitter=0.2, healthy_after_s=30.0)


@pytest.mark.parametrize("policy", [Intensity(), Backoff()])
def test_policies_are_frozen(policy: object) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(policy, dataclasses.fields(policy)[0].name, 1)  # type: ignore[arg-type]


def test_words_of_the_wire() -> None:
    assert [*Restart] == ["permanent", "transient", "temporary"]
    assert [*Strategy] == ["one_for_one", "one_for_all", "rest_for_one"]
    assert [*AutoShutdown] == ["never", "any_significant", "all_significant"]
