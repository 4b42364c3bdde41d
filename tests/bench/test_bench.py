"""The benchmark runs and prints figures. What they are is not for a test: nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bench.__main__ import MEASUREMENTS, main
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.processes import cpu_s, pss_bytes
from tests.bench.setting import Setting, open_setting
from tests.services import S3Address


@pytest.fixture(scope="module")
def setting(ceph_address: S3Address) -> Iterator[Setting]:
    """One for all smoke runs. Its Ceph is the one that the tests share."""
    with open_setting(quick=True) as setting:
        yield setting


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_a_smoke_run_gives_figures(measurement: str, setting: Setting) -> None:
    figures = MEASUREMENTS[measurement](setting)

    assert figures
    for figure in figures:
        assert figure.ours > 0
        assert figure.theirs is None or figure.theirs > 0


def test_the_command_prints_the_figures_of_the_measurements_that_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.bench", "--quick", "--json", "children"])

    assert main() == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures
    for figure in figures:
        assert figure["ours"] > 0
        assert figure["verdict"] in ("met", "missed")


def test_a_figure_says_how_it_compares_and_whether_the_goal_was_met() -> None:
    pairs = Pairs([(1.0, 2.0), (3.0, 4.0), (2.0, 2.0)])

    figure = pairs.figure("work", "s", Goal(0.7))

    assert (figure.ours, figure.theirs, figure.ratio, figure.spread) == (2.0, 2.0, 0.75, (0.5, 1.0))
    assert figure.verdict == "missed"
    assert figure.line().split() == ["work,", "s", "2.0", "2.0", "0.750", "<=", "0.7", "missed", "(0.50", "to", "1.00)"]


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [(Goal(2.0, at_least=True), "met"), (Goal(2.5, at_least=True), "missed"), (Goal(4, of="ours"), "met"), (None, "-")],
)
def test_goals_bound_the_ratio_or_our_own_figure(goal: Goal | None, verdict: str) -> None:
    assert Figure("calls", "calls / s", ours=4.0, theirs=2.0, ratio=2.0, goal=goal).verdict == verdict


def test_both_sides_go_first_in_turns() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return 1.0

    Pairs.taken(3, lambda: side("ours"), lambda: side("theirs"))

    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_process_is_counted_with_its_descendants() -> None:
    # A shell that burns time in a child which has ended, and waits in another that lives.
    script = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo ready; read -r _; true"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert cpu_s(process.pid) > 0
        assert pss_bytes(process.pid) > 0
        process.stdin.close()
