"""A short run of every target with a fixed seed: eight seconds in all. The long ones are `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.live.attack import Try, judge
from tests.fuzz.parser import parser_target
from tests.fuzz.session import LONG_S, Finding, Session, Target
from tests.fuzz.targets import all_targets

SECONDS = 8.0
SEED = 1
TARGETS = all_targets()
PER_WEIGHT_S = SECONDS / sum(target.weight for target in TARGETS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    target = TARGETS[name]
    session = Session(name, target.weight * PER_WEIGHT_S, SEED)
    target.run(session)
    assert session.inputs > 0


def test_the_same_seed_makes_the_same_inputs() -> None:
    def fed(seed: int) -> list[bytes]:
        inputs: list[bytes] = []
        target = parser_target("sample", lambda: [b"some seed", b"another"], inputs.append)
        target.run(Session("sample", 0.05, seed))
        return inputs

    first, second, other = fed(1), fed(1), fed(2)
    common = min(len(first), len(second))
    assert common > 10
    assert first[:common] == second[:common]
    assert first[:common] != other[:common]


def _fail_on_long(data: bytes) -> None:
    if len(data) > 100:
        raise RuntimeError("too long for me")


def _hang_on_long(data: bytes) -> None:
    while len(data) > 100:
        pass


@pytest.mark.parametrize(("feed", "told"), [(_fail_on_long, "too long for me"), (_hang_on_long, "CPU seconds")])
def test_what_fails_or_hangs_is_found_and_kept(
    feed: object, told: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(feed)
    monkeypatch.setattr("tests.fuzz.session.FINDINGS", tmp_path)
    target: Target = parser_target("sample", lambda: [b"seed"], feed, max_cpu_s=0.2)
    with pytest.raises(Finding, match=told) as found:
        target.run(Session("sample", 20.0, SEED))
    (kept,) = tmp_path.iterdir()  # type: ignore[attr-defined]
    assert str(kept) in str(found.value)
    assert len(kept.read_bytes()) > 100


def test_a_slow_good_client_is_found_when_there_was_time_for_two_tries() -> None:
    decoyed = [1.0] * 99 + [2.0]
    slow, fast = Try([1.0], [4.0] * 100, decoyed), Try([1.0], [3.9] * 100, decoyed)
    long, short = Session("sample", LONG_S, SEED), Session("sample", LONG_S - 1, SEED)
    judge(long, [slow, fast], 0)
    judge(short, [slow], 0)
    with pytest.raises(Finding, match=r"2\.00 times"):
        judge(long, [slow, slow], 0)
