"""Hostile files against the whole service, as clients would send them: each ends with its own code, and nothing else
happens. The sandboxes stay within their memory, and a good file's outcome is the same before, meanwhile and afterwards.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.hostile.media.all_bombs import MADE
from tests.hostile.media.bomb import READY, Bomb
from tests.hostile.media.jpeg_bombs import plain
from tests.hostile.media.sandboxes import SandboxUse, watching_sandboxes
from tests.service.harness import Service
from tests.service.test_manifest import DATA, declared_type
from trio_sandbox.tests.machine import confines_fully

MIB = 1 << 20
MEMORY_BYTES, BUDGET_BYTES = 1024 * MIB, 1280 * MIB
# Of the fork server's own heap, a fork makes private what it writes to.
COPIED_BYTES = 32 * MIB
AT_ONCE = 4
GOOD_EVERY = 10  # bombs


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """All decoders, four tasks and four sandboxes at once, and a budget for less than two of the largest pictures."""
    return {
        "DECODERS__HEIC": "true",
        "UPLOAD__MAX_AUDIO_DURATION": "60s",
        "TASKS__SLOTS": str(AT_ONCE),
        "SANDBOX__SLOTS": str(AT_ONCE),
        "SANDBOX__MEMORY": f"{MEMORY_BYTES >> 20}MiB",
        "SANDBOX__BUDGET": f"{BUDGET_BYTES >> 20}MiB",
        "TASKS__MAX_ATTEMPTS": "1",  # an Unavailable for a bomb would be a finding
    }


@dataclass
class GoodClient:
    """Uploads a good picture and a good video now and then, and keeps what came out."""

    service: Service
    outcomes: set[tuple[object, ...]] = field(default_factory=set)
    rounds: int = 0

    def upload_once(self) -> None:
        """One of each."""
        video = (DATA / "mp4-h264-rotated-90-tiny.mp4").read_bytes()
        for name, kind, body in (("a.jpg", "image/jpeg", plain()), ("a.mp4", "video/mp4", video)):
            status = self.service.upload(name, kind, body)
            thumbnail = self.service.get(status.thumbnails["small"]).content
            self.outcomes.add((name, status.state, status.width, status.height, status.blurhash, thumbnail))
        self.rounds += 1


@dataclass(frozen=True)
class Run:
    """What came of all bombs."""

    endings: dict[str, str]
    good: GoodClient
    sandboxes: SandboxUse


@pytest.fixture(scope="module")
def run(service: Service) -> Run:
    """All bombs, four at once, with a good client beside them."""
    good = GoodClient(service)
    good.upload_once()
    endings: dict[str, str] = {}
    with watching_sandboxes(service.process.pid) as sandboxes, ThreadPoolExecutor(AT_ONCE) as pool:
        for bomb, code in zip(MADE, pool.map(partial(ending, service), MADE), strict=True):
            endings[bomb.name] = code
            if len(endings) % GOOD_EVERY == 0:
                good.upload_once()  # while the next bombs are decoded
    good.upload_once()
    return Run(endings, good, sandboxes)


def ending(service: Service, bomb: Bomb) -> str:
    """The code it ends with."""
    status = service.upload(bomb.name, declared_type(bomb.name), bomb.make())
    if status.state == wire.MediaStatus.READY:
        return READY
    assert service.get(f"/media/{status.media_id}").status_code == 404
    return str(status.reason)


@pytest.mark.timeout(600)
def test_every_bomb_ends_with_its_code(run: Run) -> None:
    expected = {bomb.name: str(bomb.ending) for bomb in MADE}
    assert len(expected) == len(MADE) >= 200
    wrong = [f"{name}: {found}, not {expected[name]}" for name, found in run.endings.items() if found != expected[name]]
    assert not wrong, "\n".join(wrong)


def test_no_sandbox_takes_more_than_it_was_granted_nor_all_of_them_more_than_their_budget(run: Run) -> None:
    assert len(run.sandboxes.seen) > 50
    # Looked at every 20 ms, so the very top of a short life may be missed; far less would mean that nobody looked.
    assert 256 * MIB < run.sandboxes.peak_of_one <= MEMORY_BYTES + COPIED_BYTES
    assert run.sandboxes.peak_of_all <= BUDGET_BYTES + AT_ONCE * COPIED_BYTES


def test_good_files_are_as_they_are_without_bombs(run: Run) -> None:
    assert run.good.rounds >= len(MADE) // GOOD_EVERY
    assert {outcome[1] for outcome in run.good.outcomes} == {wire.MediaStatus.READY}
    assert len(run.good.outcomes) == 2  # one picture, one video: always the same


def test_the_service_neither_restarted_nor_failed_anything(run: Run, service: Service) -> None:
    assert service.ready() is not None
    assert ("sandbox.gaps" in service.log()) is not confines_fully()
    for line in service.log().splitlines():
        assert '"level": "error"' not in line
