"""One limiter for connections, calls and bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_grpc.net import Account, Bound, PeerLimiter, ResourceKind


def _calls(total: int, **bounds: float) -> PeerLimiter:
    return PeerLimiter(
        {ResourceKind.CALLS: Bound(total, **bounds), ResourceKind.STREAMS: Bound(max(3 * total // 4, 1))}
    )


def _taken(account: Account, **amounts: int) -> int:
    count = 0
    while account.take(**amounts):
        count += 1
    return count


def test_one_greedy_peer_gets_half_and_each_that_joins_it_less() -> None:
    limiter = _calls(1200)
    assert _taken(limiter.account("a"), calls=1) == 600
    assert _taken(limiter.account("b"), calls=1) == 300
    assert _taken(limiter.account("c"), calls=1) == 150


def test_peers_that_take_in_turn_get_the_same_and_leave_as_much_to_a_newcomer() -> None:
    limiter = _calls(1000)
    accounts = [limiter.account(f"peer {n}") for n in range(9)]
    for _ in range(200):
        for account in accounts:
            account.take(calls=1)
    assert limiter.held(ResourceKind.CALLS) == 900
    assert _taken(limiter.account("newcomer"), calls=1) == 50


def test_all_connections_of_a_peer_share_what_it_may_hold() -> None:
    limiter = _calls(100)
    assert [_taken(limiter.account("a"), calls=1) for _ in range(2)] == [50, 0]


def test_a_configured_bound_holds_as_well() -> None:
    assert _taken(_calls(100, per_peer=10).account("a"), calls=1) == 10
    limiter = _calls(100, per_account=10)
    assert [_taken(limiter.account("a"), calls=1) for _ in range(2)] == [10, 10]


def test_several_kinds_are_taken_together_or_not_at_all() -> None:
    limiter = _calls(100)
    account = limiter.account("a")
    assert _taken(account, calls=1, streams=1) == 37
    assert limiter.held(ResourceKind.CALLS) == limiter.held(ResourceKind.STREAMS) == 37
    assert _taken(account, calls=1) == 13


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=60), st.integers(1, 60))
def test_a_peer_may_hold_as_much_as_is_then_free_and_one_in_any_case(steps: list[tuple[int, int]], total: int) -> None:
    limiter = _calls(total)
    accounts = [limiter.account(str(n)) for n in range(4)]
    for peer, amount in steps:
        free = total - limiter.held(ResourceKind.CALLS) - amount
        held_by_peer = accounts[peer].held(ResourceKind.CALLS) + amount
        assert accounts[peer].take(calls=amount) == (free >= 0 and held_by_peer <= max(free, 1))


def test_the_smallest_bound_lets_one_in() -> None:
    assert _taken(_calls(1).account("a"), calls=1, streams=1) == 1


def test_scarce_is_what_is_nearly_used_up() -> None:
    limiter = _calls(10)
    for n in range(9):
        assert not limiter.is_scarce(ResourceKind.CALLS)
        limiter.account(f"peer {n}").take(calls=1)
    assert not limiter.is_scarce(ResourceKind.CALLS)
    limiter.account("last").take(calls=1)
    assert limiter.is_scarce(ResourceKind.CALLS)


def test_a_closed_account_has_given_everything_back_and_gets_nothing() -> None:
    limiter = _calls(10)
    account = limiter.account("a")
    account.take(calls=3, streams=2)
    account.close()
    account.close()
    account.give(calls=3, streams=2)
    assert not account.take(calls=1)
    assert limiter.held(ResourceKind.CALLS) == limiter.held(ResourceKind.STREAMS) == 0


def test_of_a_peer_that_has_left_nothing_is_remembered() -> None:
    limiter = _calls(10)
    for account in [limiter.account("a"), limiter.account("a"), limiter.account("b")]:
        account.take(calls=1)
        account.close()
    assert not limiter._peers


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=200))
def test_whatever_is_taken_a_newcomer_finds_room(steps: list[tuple[int, int]]) -> None:
    limiter = _calls(100)
    accounts = [limiter.account(str(n)) for n in range(6)]
    for peer, amount in steps:
        accounts[peer].take(calls=amount)
    assert limiter.held(ResourceKind.CALLS) < 100
    assert limiter.account("newcomer").take(calls=1)
