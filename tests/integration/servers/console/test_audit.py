"""Every action has an entry in the audit log, however it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from avion_media.common.credentials import Person
from avion_media.common.errors import Dependency, Unavailable
from avion_media.operations.operation import Order, Outcome, Work
from avion_media.operations.table import Operations
from avion_media.process.audit import AuditRecord
from tests.audit_log import LogInMemory


@pytest.fixture
def log() -> LogInMemory:
    """An empty log."""
    return LogInMemory()


async def carry_out(log: LogInMemory, work: Work, note: str = "") -> Outcome:
    """Release two targets, as ada."""
    operations = Operations(cast("Any", SimpleNamespace(audit=log)), "console")
    return await operations.carry_out("release", Order(("one", "two"), who=Person("ada"), note=note), work)


def only_entry(log: LogInMemory) -> AuditRecord:
    """The entry of the action."""
    (entry,) = log.records
    assert (entry.actor, entry.action, entry.target) == ("ada", "release", ("one", "two"))
    return entry


async def test_an_action_is_recorded_with_its_note(log: LogInMemory) -> None:
    async def work() -> Outcome:
        return Outcome({"one": {}, "two": {}})

    outcome = await carry_out(log, work, "ticket 7")
    entry = only_entry(log)
    assert entry.note == "2 media items are released: processed and published. Note: ticket 7"
    assert outcome.entry == entry


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (Unavailable(Dependency.STORE, "it is down"), "the object store is not available: it is down", "UNAVAILABLE"),
        (KeyError("colr"), "'colr'", "INTERNAL"),
        (AssertionError(), "AssertionError", "INTERNAL"),
    ],
)
async def test_an_action_that_fails_is_recorded_with_the_cause(
    log: LogInMemory, error: Exception, cause: str, code: str
) -> None:
    async def work() -> Outcome:
        raise error

    with pytest.raises(type(error)):
        await carry_out(log, work)
    assert (only_entry(log).note, only_entry(log).outcome) == (f"Not completed: {cause}", code)


@pytest.mark.parametrize(("ends", "result"), [(True, "2 media items"), (False, "Not completed: it was interrupted")])
async def test_an_action_that_is_cancelled_is_recorded(log: LogInMemory, ends: bool, result: str) -> None:
    with trio.CancelScope() as scope:

        async def work() -> Outcome:
            scope.cancel()
            if not ends:  # else it has killed what called it
                await trio.sleep_forever()
            return Outcome({"one": {}, "two": {}})

        await carry_out(log, work)
    assert scope.cancelled_caught is not ends
    assert only_entry(log).note.startswith(result)
