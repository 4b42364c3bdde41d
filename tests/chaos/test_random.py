"""Half a minute of random chaos with a fixed seed; `make chaos` runs longer and under full load, with other seeds."""

from __future__ import annotations

import pytest

from tests.chaos.random_run import run

SEED = 20
MINUTES = 0.4
PAUSE_S = 0.8
FEWEST = 15  # media items: fewer mean that nothing was tested


@pytest.mark.timeout(1200)  # a minute and a half on an idle machine; each phase has a limit of its own
def test_nothing_is_lost_and_nothing_happens_twice() -> None:
    report = run(SEED, MINUTES, pause_s=PAUSE_S)
    print("", *report.lines(), sep="\n")
    assert report.accepted >= FEWEST
    assert report.good, "\n".join(report.lines())
