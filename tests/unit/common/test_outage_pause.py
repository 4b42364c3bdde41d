"""The pause of a consumer during an outage: longer each time, over at the first success."""

from __future__ import annotations

import trio

from avion_media.common.concurrency import Backoff


async def test_it_grows_to_its_bound_and_ends_with_a_success(autojump_clock: object) -> None:
    pause = Backoff(0.2, 1.0)
    assert pause.remaining_s == 0
    pauses = []
    for _ in range(5):
        pause.failed()
        pauses.append(pause.pause_s)
        assert 0.8 * pause.pause_s <= pause.remaining_s <= 1.2 * pause.pause_s
        await trio.sleep(pause.remaining_s)
    assert pauses == [0.2, 0.4, 0.8, 1.0, 1.0]
    pause.succeeded()
    assert (pause.pause_s, pause.remaining_s) == (0, 0)
    pause.failed()
    assert pause.pause_s == 0.2


async def test_tries_under_way_when_it_began_do_not_prolong_it(autojump_clock: object) -> None:
    pause = Backoff(0.2, 5.0)
    pause.failed()
    before = pause.remaining_s
    pause.failed()
    pause.failed()
    assert (pause.pause_s, pause.remaining_s) == (0.2, before)
