"""The table of `docs/deletions.md`, cell by cell, against the scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from avion_media.backends.redis import Redis, open_redis
from avion_media.common.tasks import State, Status
from avion_media.items.deletion import DeletionRecords, DeletionState, Mark, Undelete
from avion_media.items.deletion.records import completeness_of
from avion_media.items.state import StatusStore

PAGE = Path(__file__).parents[4] / "docs" / "deletions.md"
HOUR_S = 3600.0
MEDIUM = "m"
BEFORE, BETWEEN, AFTER = "1-0", "2-0", "9999999999999-0"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as opened:
        info = (await opened.execute("INFO", "server")).decode()
        process = next(line.removeprefix("run_id:") for line in info.splitlines() if line.startswith("run_id:"))
        await opened.execute("HSET", completeness_of(MEDIUM), "process", process)  # nothing was lost
        yield opened


async def put_in(redis: Redis, state: str, delay_s: float) -> int:
    """Bring the medium into a state; the generation of its deletion."""
    records = DeletionRecords(redis)
    if state == "no record":
        return 1
    (mark,) = await records.mark([MEDIUM], delay_s=delay_s, position=BETWEEN)
    if state == "undeleted":
        assert await records.undelete({MEDIUM: mark.generation}, await records.issue_undelete())
    if state in ("removing", "removed"):
        await redis.execute("HSET", "media_deletion:{m}m", "due", 0)
        assert (await records.begin_removal(MEDIUM, mark.generation)).may_go
    if state == "removed":
        await records.finish_removal(MEDIUM, mark.generation, HOUR_S)
    return mark.generation


Operation = Callable[[Redis, int], Awaitable[str]]


async def notice(redis: Redis, _generation: int, position: str = AFTER) -> str:
    marks = await DeletionRecords(redis).mark([MEDIUM], delay_s=HOUR_S, position=position)
    return ("" if marks[0].fresh else "same") if marks else "ignored"


async def old_notice(redis: Redis, generation: int) -> str:
    return await notice(redis, generation, BEFORE)


async def removal(redis: Redis, generation: int) -> str:
    begun = await DeletionRecords(redis).begin_removal(MEDIUM, generation)
    return "early" if begun.early_s else "repeated" if begun.may_go else "ignored"


async def other_removal(redis: Redis, generation: int) -> str:
    return await removal(redis, generation - 1 or 2)


async def incomplete_removal(redis: Redis, generation: int) -> str:
    await redis.execute("DEL", completeness_of(MEDIUM))
    return "waits" if (await DeletionRecords(redis).begin_removal(MEDIUM, generation)).unknown else ""


async def end(redis: Redis, generation: int) -> str:
    await DeletionRecords(redis).finish_removal(MEDIUM, generation, HOUR_S)
    return "–"


async def undelete(redis: Redis, generation: int) -> str:
    records = DeletionRecords(redis)
    return "" if await records.undelete({MEDIUM: generation}, await records.issue_undelete()) else "–"


async def status(redis: Redis, _generation: int) -> str:
    taken = await StatusStore(redis).put(Status(MEDIUM, State.PROCESSING), ttl_s=60)
    return "stored" if taken else "refused"


async def restored_deletion(redis: Redis, generation: int) -> str:
    records = DeletionRecords(redis)
    before = await records.get(MEDIUM)
    current = await records.restore_marks([Mark(MEDIUM, generation, 9_999_999_999_999, False, BETWEEN)])
    return "" if await records.get(MEDIUM) != before else "same" if current else "ignored"


async def restored_newer_deletion(redis: Redis, generation: int) -> str:
    return await restored_deletion(redis, generation + 1)


async def restored_undelete(redis: Redis, generation: int) -> str:
    records = DeletionRecords(redis)
    before = await records.get(MEDIUM)
    await records.restore_undeletes({MEDIUM: generation}, Undelete(2, BETWEEN))
    return "" if await records.get(MEDIUM) != before else "ignored"


async def restored_newer_undelete(redis: Redis, generation: int) -> str:
    return await restored_undelete(redis, generation + 1)


OPERATIONS: dict[str, tuple[Operation, float]] = {
    "notice": (notice, HOUR_S),
    "notice issued before the undelete": (old_notice, HOUR_S),
    "due removal": (removal, 0.0),
    "early removal": (removal, HOUR_S),
    "removal of another generation": (other_removal, 0.0),
    "removal while records may be lost": (incomplete_removal, 0.0),
    "removal ends": (end, 0.0),
    "undelete": (undelete, HOUR_S),
    "status": (status, HOUR_S),
    "deletion of the journal": (restored_deletion, HOUR_S),
    "newer deletion of the journal": (restored_newer_deletion, HOUR_S),
    "undelete of the journal": (restored_undelete, HOUR_S),
    "newer undelete of the journal": (restored_newer_undelete, HOUR_S),
}


def rows() -> list[list[str]]:
    lines = PAGE.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| operation |"))
    table = [line for line in lines[first:] if line.startswith("|") or not line][: len(OPERATIONS) + 2]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


HEAD, _, *ROWS = rows()
CELLS = [(row[0], state, cell) for row in ROWS for state, cell in zip(HEAD[1:], row[1:], strict=True)]


def test_the_page_has_every_operation_and_state() -> None:
    assert {row[0] for row in ROWS} == OPERATIONS.keys()
    assert {*HEAD[1:]} == {"no record", *DeletionState}


@pytest.mark.parametrize(("operation", "state", "cell"), CELLS, ids=[f"{name}, {state}" for name, state, _ in CELLS])
async def test_each_cell(redis: Redis, operation: str, state: str, cell: str) -> None:
    perform, delay_s = OPERATIONS[operation]
    generation = await put_in(redis, state, delay_s)
    outcome = await perform(redis, generation)
    record = await DeletionRecords(redis).get(MEDIUM)
    after = "no record" if record is None else str(record.state)
    if cell.startswith("→ "):
        assert after == cell.removeprefix("→ ")
        assert outcome in ("", "repeated", "–")
        if operation.startswith("notice") and state == "undeleted":
            assert record is not None
            assert record.generation > generation
    else:
        assert (outcome, after) == (cell, state)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_several_due_times_the_earliest_is_valid(redis: Redis, order: tuple[int, int]) -> None:
    """Deleted with an hour of delay, then with a minute; a replay reads the two entries in any order."""
    records = DeletionRecords(redis)
    (first,) = await records.mark([MEDIUM], delay_s=HOUR_S)
    (second,) = await records.mark([MEDIUM], delay_s=60.0)
    assert (second.generation, second.fresh) == (first.generation, False)
    assert second.due_ms < first.due_ms
    assert await records.mark([MEDIUM], delay_s=HOUR_S) == [second]
    await redis.execute("DEL", "media_deletion:{m}m")
    for number in order:
        await records.restore_marks([(first, second)[number]])
    restored = await records.get(MEDIUM)
    assert restored is not None
    assert restored.due_ms == second.due_ms
