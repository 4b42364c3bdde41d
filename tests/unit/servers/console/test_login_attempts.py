"""Who sends wrong tokens has to wait."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from avion_media.servers.console import sessions
from avion_media.servers.console.sessions import LoginAttempts


async def test_five_wrong_tokens_at_once_and_then_one_every_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    attempts = LoginAttempts()
    for _ in range(5):
        assert attempts.wait_s("192.0.2.1") == 0
        attempts.refused("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") == pytest.approx(10)
    assert attempts.wait_s("192.0.2.2") == 0
    await trio.sleep(10)
    assert attempts.wait_s("192.0.2.1") == pytest.approx(0)
    attempts.refused("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") == pytest.approx(10)
    await trio.sleep(60)
    assert attempts.wait_s("192.0.2.1") == 0


async def test_many_addresses_are_remembered_in_bounded_memory(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_MAX_ADDRESSES", 2)
    attempts = LoginAttempts()
    for address in ("a", "b", "c"):
        for _ in range(5):
            attempts.refused(address)
    assert [attempts.wait_s(each) > 0 for each in ("a", "b", "c")] == [False, True, True]
