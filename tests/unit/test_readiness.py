"""What a replica says of itself while a part of it is down: the whole, and what calls need."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from avion_media.config import Config
from avion_media.lifecycle import Phase
from avion_media.runtime import Runtime


@pytest.fixture
def runtime() -> Runtime:
    """Of a service that is ready."""
    runtime = Runtime(Config())
    runtime.set_components_ready(True)
    runtime.lifecycle.advance_to(Phase.READY)
    return runtime


@pytest.mark.parametrize(
    ("down", "serving"),
    [
        ("service/processing/reader", True),
        ("service/processing", True),
        ("service/sweeper", True),
        ("service/origin", True),  # gRPC calls need it not
        ("foundation/sandbox", True),
        ("foundation", False),
        ("foundation/redis", False),
        ("foundation/store", False),
        ("service", False),
    ],
)
def test_a_node_that_is_down_makes_it_unready_and_is_named(runtime: Runtime, down: str, serving: bool) -> None:
    told: list[bool] = []
    runtime.on_readiness(told.append)
    runtime.set_down(frozenset({down}))
    report = runtime.readiness()
    assert (report["ready"], report["down"], runtime.serving) == (False, [down], serving)
    runtime.set_down(frozenset())
    report = runtime.readiness()
    assert (report["ready"], report["down"], runtime.serving) == (True, [], True)
    assert told == [True, serving, True]


def test_flips_count_each_change_of_ready_and_nothing_else(runtime: Runtime) -> None:
    assert runtime.readiness()["flips"] == 1  # it became ready
    for down in ({"service/sweeper"}, {"service/sweeper", "service/origin"}, {"service/origin"}):
        runtime.set_down(frozenset(down))
        assert runtime.readiness()["flips"] == 2
    runtime.set_down(frozenset())
    assert runtime.readiness()["flips"] == 3
    runtime.set_components_ready(False)
    assert runtime.readiness()["flips"] == 4
    runtime.lifecycle.advance_to(Phase.LAME_DUCK)
    assert runtime.readiness()["flips"] == 4


def test_the_log_names_the_topmost_only(runtime: Runtime) -> None:
    with capture_logs() as said:
        runtime.set_down(frozenset({"service/cache", "service/cache/reader", "service/cached"}))
        runtime.set_down(frozenset({"service/cache", "service/cache/keeper", "service/cached"}))
    assert [line["down"] for line in said] == [["service/cache", "service/cached"]]
