"""The audit log on a real bucket: written in one object per batch, read from its end, checked, and cut by age."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pytest
import trio

from avion_media.backends.store import ObjectStore, open_store
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.resources import ResourceSlot
from avion_media.process.audit import AuditLog, AuditRecord, reading
from avion_media.process.audit import log as module
from avion_media.process.audit.reading import AuditQuery, read
from avion_media.process.audit.record import END, LOST, OUTAGE, SERVICE, START, Kind, drafts, place_of, read_line
from avion_media.process.audit.verification import verify
from tests.audit_log import objects_in, records_in
from tests.conftest import S3Bucket
from trio_redis import run_all

Slot = ResourceSlot[ObjectStore]


@pytest.fixture
async def store(s3: S3Bucket) -> AsyncIterator[Slot]:
    """The store of an empty bucket."""
    slot: Slot = ResourceSlot(Dependency.STORE)
    async with open_store(s3.config()) as opened:
        with slot.filled(opened):
            yield slot


def an_action(name: str, target: Sequence[str] | int = ("a",), actor: str = "ada") -> list[AuditRecord]:
    return list(drafts("console", actor, name, target))


def running(_process: str, _last: datetime) -> bool:
    return True


def gone(_process: str, _last: datetime) -> bool:
    return False


def all_records(bucket: S3Bucket, process: str) -> list[AuditRecord]:
    """What is in the bucket of one chain, in its order."""
    found: list[AuditRecord] = []
    for key, body in sorted(objects_in(bucket).items()):
        place = place_of(key)
        if place is not None and place.process == process:
            found += map(read_line, body.splitlines())
    return found


@contextmanager
def refusing(store: Slot, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bucket takes no objects of the log, as with a policy that denies it."""

    async def put(_self: ObjectStore, key: str, *_args: Any, **_settings: Any) -> str:
        raise Unavailable(Dependency.STORE, f"it refuses the credentials: {key}")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", put)
        yield


async def test_a_record_is_in_the_bucket_before_its_action_is_answered(store: Slot, s3: S3Bucket) -> None:
    log = AuditLog(store, "p", "version 1")
    await log.require()
    assert [each.action for each in all_records(s3, "p")] == [START]
    await log.record(an_action("pause"))
    await log.close()
    assert [each.action for each in all_records(s3, "p")] == [START, "pause", END]
    assert (await verify(store.get(), gone)).gaps == []


async def test_what_waits_for_a_write_shares_the_next_one(store: Slot, s3: S3Bucket) -> None:
    log = AuditLog(store, "p")
    await run_all([partial(log.record, an_action(f"a{number}")) for number in range(100)])
    assert len(all_records(s3, "p")) == 101
    assert len(objects_in(s3)) <= 2  # perhaps the first one, and all others while it was written
    assert (await verify(store.get(), running)).gaps == []


async def test_a_lost_answer_repeats_the_write_without_a_second_record(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, put = AuditLog(store, "p"), ObjectStore.put

    async def answer_is_lost(self: ObjectStore, *args: Any, **settings: Any) -> str:
        await put(self, *args, **settings)
        raise Unavailable(Dependency.STORE, "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", answer_is_lost)
        with pytest.raises(Unavailable):
            await log.record(an_action("pause"))
    await log.record(an_action("resume"))
    assert [each.action for each in all_records(s3, "p")] == [START, "pause", OUTAGE, "resume"]
    assert (await verify(store.get(), running)).gaps == []


async def test_an_action_is_refused_while_the_bucket_takes_no_record_and_the_gap_is_recorded(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(store, "p")
    await log.require()
    with refusing(store, monkeypatch):
        with pytest.raises(Unavailable):
            await log.record(an_action("block"))  # it was carried out before
        for _ in range(2):
            with pytest.raises(Unavailable):
                await log.require()
        log.list_call("grpc", "gateway", "delete", ["one"], "ok", "")
        await log.write_collected()
        assert log.failing_for_s > 0
    await log.write_collected()
    assert log.failing_for_s == 0
    start, block, outage = all_records(s3, "p")
    assert (start.action, block.action, outage.action, outage.target) == (START, "block", OUTAGE, 2)
    since, until = outage.note.split(" from ")[1].split(";")[0].split(" to ")
    assert since < until
    assert [each.action for each in all_records(s3, "p.calls")] == [START, "delete", OUTAGE]
    assert (await verify(store.get(), running)).gaps == []


async def test_a_foreign_object_in_the_way_is_named_and_does_not_stop_the_log(store: Slot, s3: S3Bucket) -> None:
    log = AuditLog(store, "p")
    await log.require()
    key = next(iter(objects_in(s3))).replace("00000001", "00000002")
    s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"in the way\n")
    await log.record(an_action("pause"))
    assert [each.action for each in records_in_readable(s3)] == [START, "pause"]
    assert (await verify(store.get(), running)).gaps == [f"{key}, line 1: not a record"]


def records_in_readable(s3: S3Bucket) -> list[AuditRecord]:
    found: list[AuditRecord] = []
    for _, body in sorted(objects_in(s3).items()):
        with suppress(ValueError):
            found += map(read_line, body.splitlines())
    return found


async def test_calls_are_listed_within_a_second_and_counted_by_the_minute(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_765_100_000.0]
    monkeypatch.setattr(module, "now_s", lambda: now[0])
    log = AuditLog(store, "p")
    for number in range(1500):
        log.list_call("grpc", "gateway", "delete", [f"m{number}"], "ok", "owner ada")
    for audience in ("bob", "bob", "eve"):
        log.count_call("grpc", "gateway", "sign", f"audience {audience}", 20)
    await log.write_collected()
    calls = [each for each in all_records(s3, "p.calls") if each.actor != SERVICE]
    assert [(each.action, len(each.target)) for each in calls if not isinstance(each.target, int)] == [
        ("delete", 1000), ("delete", 500),
    ]  # fmt: skip
    assert len(objects_in(s3)) == 1
    now[0] += 60
    await log.write_collected()
    signed = [each for each in all_records(s3, "p.calls") if each.action == "sign"]
    assert [(each.target, each.note) for each in signed] == [
        (40, "2 calls in a minute, audience bob"), (20, "1 calls in a minute, audience eve"),
    ]  # fmt: skip
    assert all_records(s3, "p") == []


async def test_memory_is_bounded_and_what_it_had_no_room_for_is_counted(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 10)
    monkeypatch.setattr(module, "MAX_COUNTED", 8)
    monkeypatch.setattr(module, "MAX_REFUSED", 5)
    log = AuditLog(store, "p")
    for number in range(15):
        log.list_call("grpc", "gateway", "delete", [f"m{number}"], "ok", "")
        log.count_call("grpc", f"caller {number}", "sign", "", 1)
        log.refuse("grpc", f"anyone at 10.0.0.{number}", "call", "UNAUTHENTICATED")
    await log.write_collected(all_minutes=True)
    calls = all_records(s3, "p.calls")
    assert [len(each.target) for each in calls if each.action == "delete" and not isinstance(each.target, int)] == [10]
    assert len([each for each in calls if each.action == "sign"]) == 8
    assert [each.target for each in calls if each.action == LOST] == [12]
    refused = [each for each in all_records(s3, "p.refused") if each.actor != SERVICE]
    assert [(each.actor, each.target) for each in refused if each.actor == "*"] == [("*", 10)]
    assert len(refused) == 6


async def test_2000_refused_previews_do_not_push_out_ten_actions(store: Slot, s3: S3Bucket) -> None:
    log = AuditLog(store, "p")
    for number in range(10):
        await log.record(an_action("delete", [f"m{number}"]))
        for each in range(200):
            log.refuse("console", "mallory", "look", "NOT_FOUND", f"nosuch{number}-{each}")
    await log.close()
    found, older = await read(store, AuditQuery())
    assert [each.target for each in found] == [(f"m{number}",) for number in reversed(range(10))]
    assert older == ""
    refused, _ = await read(store, AuditQuery((Kind.REFUSED,)))
    assert sum(each.target for each in refused if isinstance(each.target, int)) == 2000
    assert {(each.actor, each.action, each.outcome) for each in refused} == {("mallory", "look", "NOT_FOUND")}


async def test_pages_show_each_record_once_newest_first(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_WINDOW", 4)  # so that the ends of chains must be searched
    days = [date(2026, 12, day) for day in (1, 2, 5)]
    logs = [AuditLog(store, each) for each in ("p", "q")]
    count = 0
    for day in days:
        monkeypatch.setattr(module, "utc_now", lambda day=day: datetime(day.year, day.month, day.day, tzinfo=UTC))
        for _ in range(13):
            await logs[count % 2].record(an_action(f"a{count}", actor=f"{day}"))
            count += 1
    monkeypatch.setattr(reading, "utc_now", lambda: datetime(2026, 12, 5, 12, tzinfo=UTC))
    found: list[AuditRecord] = []
    page, older = await read(store, AuditQuery(), most=7)
    while page:
        found += page
        page, older = await read(store, AuditQuery(), older, most=7) if older else ([], "")
    assert sorted(each.action for each in found) == sorted(f"a{number}" for number in range(count))
    assert [each.actor for each in found] == sorted((each.actor for each in found), reverse=True)
    for log in logs:
        of_chain = [each.seq for each in found if each.process == log.process]
        assert of_chain == sorted(of_chain, reverse=True)
    (one,), _ = await read(store, AuditQuery(actions=["a3"]))
    assert one.action == "a3"
    since, _ = await read(store, AuditQuery(since=datetime(2026, 12, 2, tzinfo=UTC)))
    assert all(each.at >= datetime(2026, 12, 2, tzinfo=UTC).timestamp() for each in since)
    monkeypatch.setattr(module, "utc_now", lambda: datetime(2026, 12, 5, 12, tzinfo=UTC))
    assert (await verify(store.get(), running)).gaps == []


async def never(*_args: object, **_settings: object) -> None:
    await trio.sleep_forever()


async def test_a_page_that_takes_too_long_ends_early_with_a_cursor(
    store: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(store, "p")
    await log.record(an_action("pause"))
    with monkeypatch.context() as patch:
        patch.setattr(reading, "read_many", never)
        found, older = await read(store, AuditQuery(), within_s=0.1)
    assert (found, bool(older)) == ([], True)
    found, older = await read(store, AuditQuery(), older)
    assert [each.action for each in found] == ["pause"]


@pytest.mark.parametrize("what", ["object", "line", "end"])
async def test_what_was_removed_or_changed_is_named(store: Slot, s3: S3Bucket, what: str) -> None:
    log = AuditLog(store, "p")
    for name in ("pause", "block", "resume"):
        await log.record(an_action(name))
    await log.close()
    assert not (await verify(store.get(), gone)).gaps
    keys = sorted(objects_in(s3))
    if what == "object":
        s3.client.delete_object(Bucket=s3.bucket, Key=keys[1])
    elif what == "line":
        body = objects_in(s3)[keys[1]].replace(b'"ada"', b'"bob"')
        s3.client.put_object(Bucket=s3.bucket, Key=keys[1], Body=body)
    else:
        s3.client.delete_object(Bucket=s3.bucket, Key=keys[-1])
    (gap,) = (await verify(store.get(), gone)).gaps
    assert {"object": "p: object 2 with record 3: missing", "line": "p/3: the record was changed", "end": "p: no end"}[
        what
    ] in gap


async def test_a_log_that_has_ended_takes_no_action(store: Slot) -> None:
    log = AuditLog(store, "p")
    await log.record(an_action("pause"))
    await log.close()
    with pytest.raises(Unavailable, match="this process stops"):
        await log.require()


async def test_the_last_hash_of_each_chain_is_logged_once(
    store: Slot, s3: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(module._log, "info", lambda event, **fields: lines.append({"event": event, **fields}))
    log = AuditLog(store, "p")
    await log.record(an_action("pause"))
    log.log_hashes()
    log.log_hashes()
    last = all_records(s3, "p")[-1]
    assert lines == [{"event": "audit.hash", "process": "p", "seq": 2, "hash": last.hash}]
    assert not (await verify(store.get(), running, hashes={"p": [last.hash]})).gaps
    assert len(records_in(s3)) == 1
