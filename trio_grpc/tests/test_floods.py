"""A peer has its flood units for all of its connections, those that have ended included."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trustme
from hyperframe.frame import PingFrame, SettingsFrame

from trio_grpc import GrpcLimits, GrpcServer, floods, open_channel
from trio_grpc.floods import PeerFloods
from trio_grpc.frames import COSTS, PREFACE, FloodBudget

from .echo import Echo, running, say
from .raw_client import pings, raw_client

ATTACKER, OTHER = "127.0.0.2", "127.0.0.3"
LIMITS = GrpcLimits(max_flood_units=100, flood_units_per_s=1.0, flood_connections=3)


def opened(peers: PeerFloods, peer: str = ATTACKER, now: float = 0.0) -> FloodBudget | None:
    of_peer = peers.admit(peer, COSTS.CONNECTION.flood, now)
    return None if of_peer is None else FloodBudget(LIMITS.max_flood_units, LIMITS.flood_units_per_s, now, of_peer)


def test_who_comes_back_has_what_was_left_and_gets_it_back_with_time() -> None:
    peers, now = PeerFloods(LIMITS), 1000.0
    connections = 0
    while (budget := opened(peers, now=now)) is not None:
        connections += 1
        while budget.left >= 0:
            budget.charge(1, now)
    assert connections == LIMITS.flood_connections
    assert opened(peers, OTHER, now) is not None
    assert opened(peers, now=now + 0.3) is None  # it is one unit in debt, and three a second come back
    again = opened(peers, now=now + 10.0)
    assert again is not None
    assert 0 <= again.left < LIMITS.max_flood_units / 3
    fresh = opened(peers, now=now + 1000.0)
    assert fresh is not None
    assert fresh.left == LIMITS.max_flood_units


def test_connections_at_the_same_time_share_it() -> None:
    peers = PeerFloods(LIMITS)
    budgets = [budget for _ in range(20) if (budget := opened(peers)) is not None]
    assert len(budgets) == 20
    for budget in budgets:
        budget.charge(30, 0.0)
    assert all(budget.left < 0 for budget in budgets)
    budgets[0].refund(10_000)  # what was progress after all
    assert budgets[1].left == LIMITS.max_flood_units - 30


def test_a_connection_of_a_proxy_is_a_peer_that_is_not_remembered() -> None:
    peers = PeerFloods(LIMITS)
    for _ in range(2):
        budget = peers.admit("10.0.0.1 40000", 1, 0.0, is_proxy=True)
        assert budget is not None
        budget.charge(1000, 0.0)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floods, "_MAX_PEERS", 2)
    peers = PeerFloods(LIMITS)
    for peer in ("a", "b", "c"):
        budget = opened(peers, peer)
        assert budget is not None
        budget.charge(1000, 0.0)
    assert [opened(peers, peer) is None for peer in ("b", "c", "a")] == [True, True, False]


@asynccontextmanager
async def attacked(ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    limits = GrpcLimits(max_flood_units=100, flood_units_per_s=0.0, flood_connections=3)
    async with running(GrpcServer([Echo().service], limits=limits), ssl_context) as port:
        yield port


async def flood(port: int) -> bytes:
    """Send a flood until the server ends the connection. Return what it sent."""
    received = b""
    with suppress(OSError, trio.BrokenResourceError):  # it may be reset before the client has noticed that it connected
        async with await trio.open_tcp_stream("127.0.0.1", port, local_address=ATTACKER) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(PREFACE + b"".join(frame.serialize() for frame in pings(200)))
            while piece := await stream.receive_some():
                received += piece
    return received


async def test_an_address_that_floods_is_refused_when_it_comes_back_and_others_are_not() -> None:
    async with attacked() as port, raw_client(port, local_address=OTHER) as other:
        answers = [await flood(port) for _ in range(5)]
        assert answers[0]
        assert answers[3:] == [b"", b""]  # not a byte: it was refused before TLS or HTTP/2 began
        async with raw_client(port, local_address=OTHER) as another:
            assert another.of(SettingsFrame)
        await other.send(*pings(10))
        await other.read_until(lambda seen: len(seen.of(PingFrame)) == 10)


async def test_an_honest_client_that_reconnects_for_each_call_is_not_refused() -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    trusting.set_alpn_protocols(["h2"])
    limits = GrpcLimits(flood_units_per_s=0.0)  # as if all came at once
    async with running(GrpcServer([Echo().service], limits=limits), context) as port:
        for _ in range(250):
            async with open_channel("127.0.0.1", port, ssl_context=trusting) as channel:
                assert await say(channel, b"hello") == b"hello"
