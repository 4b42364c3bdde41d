from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from supervisors import (
    Backoff,
    Child,
    Intensity,
    Restart,
    State,
    Strategy,
    Supervisor,
    TooManyRestarts,
    Worker,
    open_tree,
)

from .probes import NO_BACKOFF, PLENTY, SELDOM, Boom, Stage, observed, run_expecting, settled, terminate


def tree(stage: Stage, strategy: Strategy, intensity: Intensity = PLENTY) -> Supervisor:
    return Supervisor("app", [stage.spec(name) for name in "abc"], strategy=strategy, intensity=intensity)


@pytest.mark.parametrize(
    ("strategy", "failed", "log"),
    [
        (Strategy.ONE_FOR_ONE, "b", "-b +b"),
        (Strategy.ONE_FOR_ALL, "b", "-b -c -a +a +b +c"),
        (Strategy.ONE_FOR_ALL, "a", "-a -c -b +a +b +c"),
        (Strategy.ONE_FOR_ALL, "c", "-c -b -a +a +b +c"),
        (Strategy.REST_FOR_ONE, "b", "-b -c +b +c"),
        (Strategy.REST_FOR_ONE, "a", "-a -c -b +a +b +c"),
        (Strategy.REST_FOR_ONE, "c", "-c +c"),
    ],
)
async def test_who_is_restarted_and_in_which_order(strategy: Strategy, failed: str, log: str) -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(tree(stage, strategy)) as root:
            stage.take_log()
            stage[failed].fail()
            await settled()
            assert stage.take_log() == log
            assert {child.state for child in root.snapshot().children} == {State.RUNNING}


@pytest.mark.parametrize("strategy", [*Strategy])
async def test_escalation(strategy: Strategy) -> None:
    stage = Stage()
    root = tree(stage, strategy, Intensity(1, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            stage["b"].fail()
            await settled()
            stage.take_log()
            stage["b"].fail()
    assert stage.take_log() == "-b -c -a"


@pytest.mark.parametrize(
    ("strategy", "log"),
    [
        (Strategy.ONE_FOR_ONE, "-b +b"),
        (Strategy.ONE_FOR_ALL, "-b -c -a +a +b +c -c -b -a +a +b +c -c -b -a +a +b +c"),
        (Strategy.REST_FOR_ONE, "-b -c +b +c -c +c -c +c"),
    ],
)
async def test_another_child_fails_while_restarting(strategy: Strategy, log: str) -> None:
    """The start of c fails twice while it comes up with its group; each counts as a failure of c."""
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(tree(stage, strategy)):
            stage.take_log()
            stage["c"].failing_starts = 2
            stage["b"].fail()
            await settled()
            assert stage.take_log() == log


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_a_restart_that_keeps_failing_escalates(strategy: Strategy) -> None:
    stage = Stage()
    root = tree(stage, strategy, Intensity(3, 10))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_expecting, root, TooManyRestarts)
            stage["c"].failing_starts = 100
            stage["b"].fail()
    assert stage["c"].lives == 4
    assert stage.up() == set()


async def test_a_sibling_that_dies_during_the_group_stop_is_not_counted(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = tree(stage, Strategy.ONE_FOR_ALL, Intensity(1, 100))
    async with open_tree(root):
        stage["c"].stop_s = 2.0
        stage["b"].fail()
        await trio.sleep(1)
        stage["a"].fail()  # its turn to stop has not come yet
        await trio.sleep(2)
        assert stage.take_log() == "+a +b +c -b -a -c +a +b +c"
        assert {child.state for child in root.snapshot().children} == {State.RUNNING}


async def test_a_failure_further_left_takes_the_restart_over(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = tree(stage, Strategy.REST_FOR_ONE)
    async with open_tree(root):
        stage.take_log()
        stage["c"].start_s = 5.0
        stage["b"].fail()
        await trio.sleep(1)
        assert stage.take_log() == "-b -c +b +c"
        stage["a"].fail()  # while c is starting
        await trio.sleep(10)
        assert stage.take_log() == "-a -c -b +a +b +c"
        assert root.snapshot().children[2].state is State.RUNNING


async def test_a_failure_while_the_group_is_in_backoff_waits_for_the_later_of_both(autojump_clock: MockClock) -> None:
    stage = Stage()
    specs = [
        stage.spec("a", backoff=Backoff(first_s=2, max_s=30, jitter=0)),
        stage.spec("b", backoff=Backoff(first_s=10, max_s=30, jitter=0)),
        stage.spec("c"),
    ]
    root = observed(Supervisor("app", specs, strategy=Strategy.REST_FOR_ONE, intensity=SELDOM), stage.observe)
    async with open_tree(root):
        stage["b"].fail()
        await trio.sleep(1)
        stage["a"].fail()
        await trio.sleep(20)
    assert [event.at for event in stage.events if event.kind == "starting" and event.path in "abc"] == [0] * 3 + [
        10
    ] * 3


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_a_restarted_child_that_fails_while_the_group_still_starts(
    strategy: Strategy, autojump_clock: MockClock
) -> None:
    stage = Stage()
    async with open_tree(tree(stage, strategy)):
        stage.take_log()
        stage["c"].start_s = 5.0
        stage["a"].fail()
        await trio.sleep(1)
        stage["a"].fail()
        await trio.sleep(10)
        assert stage.take_log() == "-a -c -b +a +b +c -a -c -b +a +b +c"


async def test_temporary_siblings_go_down_with_the_group_and_stay_down() -> None:
    stage = Stage()
    specs = [stage.spec("a"), stage.spec("t", restart=Restart.TEMPORARY), stage.spec("c")]
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)) as root:
            stage["a"].fail()
            await settled()
            assert stage.take_log() == "+a +t +c -a -c -t +a +c"
            assert root.snapshot().children[1].state is State.STOPPED


async def test_a_temporary_child_that_never_started_still_comes_up(autojump_clock: MockClock) -> None:
    """A crash during the first start makes the group start over; that must not lose who had no turn yet."""
    stage = Stage()
    specs = [stage.spec("a"), stage.spec("b"), stage.spec("t", restart=Restart.TEMPORARY)]
    stage["b"].start_s = 5.0
    root = Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(1)
        stage["a"].fail()
        await trio.sleep(12)
        assert stage.up() == {"a", "b", "t"}
        root.stop()


async def test_a_finished_transient_child_runs_again_with_its_group() -> None:
    """As in OTP: those right of it may need what it sets up."""
    stage = Stage()
    specs = [stage.spec("a"), stage.spec("setup", restart=Restart.TRANSIENT), stage.spec("c")]
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", specs, strategy=Strategy.REST_FOR_ONE)):
            stage["setup"].finish()
            await settled()
            stage.take_log()
            stage["a"].fail()
            await settled()
            assert stage.take_log() == "-a -c +a +setup +c"


async def test_who_was_stopped_by_hand_stays_down_through_a_group_restart() -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(tree(stage, Strategy.ONE_FOR_ALL)) as root:
            await terminate(root, "b")
            stage.take_log()
            stage["a"].fail()
            await settled()
            assert stage.take_log() == "-a -c +a +c"
            root.find("b").restart()
            await settled()
            assert stage.take_log() == "+b"


async def test_stopped_by_hand_while_the_group_stops(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(tree(stage, Strategy.ONE_FOR_ALL)) as root:
        stage["c"].stop_s = 1.0
        stage["a"].fail()
        await settled()
        root.find("c").stop()
        await trio.sleep(2)
        assert stage.up() == {"a", "b"}
        assert root.snapshot().children[2].state is State.STOPPED


async def test_a_finished_child_started_by_hand_while_its_group_stops_is_left_alone(autojump_clock: MockClock) -> None:
    stage = Stage()
    specs = [stage.spec("a", restart=Restart.TEMPORARY), stage.spec("b"), stage.spec("c")]
    async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)) as root:
        stage["a"].finish()
        await settled()
        stage["b"].stop_s = 2.0
        stage["c"].fail()
        await trio.sleep(1)
        root.find("a").restart()
        await trio.sleep(5)
        assert stage.take_log() == "+a +b +c -a -c +a -b +b +c"
        assert stage.up() == {"a", "b", "c"}


async def test_a_held_child_asked_back_while_its_group_stops_comes_up_in_its_turn(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(tree(stage, Strategy.ONE_FOR_ALL)) as root:
        stage["b"].stop_s = 2.0
        root.find("b").stop()
        await settled()
        stage["c"].fail()
        await trio.sleep(1)
        root.find("b").restart()
        await trio.sleep(5)
        assert stage.take_log() == "+a +b +c -c -b -a +a +b +c"


@pytest.mark.parametrize("by_itself", [False, True])
async def test_a_temporary_child_asked_back_while_its_group_stops_comes_up_in_its_turn(
    by_itself: bool, autojump_clock: MockClock
) -> None:
    stage = Stage()
    specs = [stage.spec("a", restart=Restart.TEMPORARY), stage.spec("b", restart=Restart.TEMPORARY), stage.spec("c")]
    async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)) as root:
        stage["b"].stop_s = 2.0
        stage["c"].fail()
        await trio.sleep(1)
        if by_itself:
            stage["a"].fail()
            await settled()
        else:
            root.find("a").stop()
        root.find("a").restart()
        await trio.sleep(5)
        assert stage.take_log() == "+a +b +c -c -a -b +a +c"
        stage["c"].fail()
        await trio.sleep(5)
        assert stage.up() == {"c"}  # it is temporary as before


async def test_a_temporary_child_that_is_up_is_not_kept_by_asking_it_back(autojump_clock: MockClock) -> None:
    stage = Stage()
    specs = [stage.spec("a", restart=Restart.TEMPORARY), stage.spec("b")]
    async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)) as root:
        root.find("a").restart()
        await settled()
        assert stage.up() == {"a", "b"}
        stage["b"].fail()
        await settled()
        assert stage.up() == {"b"}


async def test_who_was_started_by_hand_out_of_turn_pulls_nobody_left_of_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = tree(stage, Strategy.REST_FOR_ONE)
    stage["a"].start_s = 5.0
    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        stage["a"].fail()
        await trio.sleep(1)
        stage.take_log()
        root.find("b").stop()
        root.find("b").restart()
        await settled()
        stage["b"].fail()
        await settled()
        assert stage.take_log() == "+b -b"  # its turn comes after that of a, which goes on starting
        await trio.sleep(5)
        assert stage.take_log() == "+b +c"
        root.stop()


async def test_a_restart_taken_over_by_one_started_by_hand_stops_whom_it_had_to(autojump_clock: MockClock) -> None:
    stage = Stage()
    root = Supervisor("app", [stage.spec(name) for name in "abcd"], strategy=Strategy.REST_FOR_ONE, intensity=PLENTY)
    async with open_tree(root):
        await terminate(root, "c")
        stage["d"].stop_s = 2.0
        stage["a"].fail()
        await trio.sleep(1)
        root.find("c").restart()
        await settled()
        stage.take_log()
        stage["c"].fail()
        await trio.sleep(5)
        assert stage.take_log() == "-c -d -b +a +b +c +d"


async def test_who_becomes_ready_while_its_group_goes_down_comes_up_with_it(autojump_clock: MockClock) -> None:
    stage = Stage()
    async with open_tree(tree(stage, Strategy.ONE_FOR_ALL)) as root:
        await terminate(root, "b")
        stage["b"].start_s, stage["c"].stop_s = 1.0, 2.0
        root.find("b").restart()
        await settled()
        stage.take_log()
        stage["a"].fail()
        await trio.sleep(10)
        assert stage.take_log() == "-a -c -b +a +b +c"


async def test_who_has_nothing_to_run_while_its_group_goes_down_comes_up_with_it(autojump_clock: MockClock) -> None:
    async def run(child: Child[None]) -> None:
        child.started()
        await trio.sleep(1)
        child.ignore()

    stage = Stage()
    node = Worker("a", run)
    async with open_tree(Supervisor("app", [node, stage.spec("b"), stage.spec("c")], strategy=Strategy.ONE_FOR_ALL)):
        stage["b"].stop_s = 2.0
        stage["c"].fail()
        await settled()
        await node.wait_down()
        assert (trio.current_time(), node.state) == (1, State.WAITING)
        await node.wait_started()
        assert trio.current_time() == 2


@pytest.mark.parametrize("strategy", [*Strategy])
async def test_a_failure_right_after_ready_during_the_start(strategy: Strategy, autojump_clock: MockClock) -> None:
    """Those right of it wait for its backoff where they depend on it."""
    failed = False

    async def run(child: Child[None]) -> None:
        nonlocal failed
        child.started()
        if not failed:
            failed = True
            raise Boom("right after")
        await child.stopping.wait()

    stage = Stage()
    first = Worker("a", run, backoff=Backoff(first_s=10, max_s=30, jitter=0))
    root = Supervisor("app", [first, stage.spec("b"), stage.spec("c")], strategy=strategy, intensity=SELDOM)
    async with open_tree(root):
        assert trio.current_time() == 10.0
        nodes = {node.path: node for node in root.snapshot().children}
        assert {path: node.state for path, node in nodes.items()} == dict.fromkeys("abc", State.RUNNING)
        assert nodes["b"].since == (0.0 if strategy is Strategy.ONE_FOR_ONE else 10.0)


async def test_a_deaf_sibling_is_cancelled_after_its_grace(autojump_clock: MockClock) -> None:
    stage = Stage()
    specs = [stage.spec("a"), stage.spec("b", grace_s=3.0)]
    async with open_tree(Supervisor("app", specs, strategy=Strategy.ONE_FOR_ALL)):
        stage["b"].deaf = True
        stage["a"].fail()
        await trio.sleep(2.5)
        assert stage.take_log() == "+a +b -a"
        stage["b"].deaf = False
        await trio.sleep(1)
        assert stage.take_log() == "-b +a +b"


async def test_the_rest_keeps_its_incarnation() -> None:
    stage = Stage()
    inner = Supervisor("inner", [stage.spec("x"), stage.spec("y")], strategy=Strategy.ONE_FOR_ALL)
    with trio.fail_after(5):
        async with open_tree(Supervisor("app", [stage.spec("a"), inner, stage.spec("b")])) as root:
            stage["x"].fail()
            await settled()
            lives = {node.path: node.incarnation for node in root.snapshot().walk()}
            assert lives == {"/": 1, "a": 1, "inner": 1, "inner/x": 2, "inner/y": 2, "b": 1}


@pytest.mark.parametrize("strategy", [*Strategy])
async def test_two_failures_in_the_same_moment(strategy: Strategy) -> None:
    stage = Stage()
    with trio.fail_after(5):
        async with open_tree(tree(stage, strategy, Intensity(2, 10))):
            stage["a"].fail()
            stage["c"].fail()
            await settled()
            assert stage.up() == {"a", "b", "c"}
            assert stage["a"].lives == 2
            assert stage["c"].lives == 2


async def test_a_child_that_is_removed_while_its_group_restarts_stays_away(autojump_clock: MockClock) -> None:
    stage = Stage()
    removed = stage.spec("b")
    async with open_tree(
        Supervisor("app", [stage.spec("a"), removed], strategy=Strategy.ONE_FOR_ALL, backoff=NO_BACKOFF)
    ) as root:
        stage["b"].stop_s = 2.0
        stage["a"].fail()
        await trio.sleep(1)
        assert removed.state is State.STOPPING
        await root.remove(removed)
        await trio.sleep(1)
        assert stage.take_log() == "+a +b -a -b +a"
        assert [child.name for child in root.children] == ["a"]
