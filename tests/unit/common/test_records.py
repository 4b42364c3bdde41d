"""Every kind of stored record has a sample, which this version reads, and which no change of it can crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest

import avion_media
from avion_media.common.records import (
    RECORDS,
    UNREADABLE,
    CustomRecord,
    HashRecord,
    JsonRecord,
    Raw,
    Record,
    UnreadableRecord,
)
from avion_media.common.tasks import State

SAMPLES = Path(__file__).resolve().parents[2] / "data/records"
ELSEWHERE = (".wire", ".__main__", ".sandbox.child")  # generated; programs

for module in walk_packages(avion_media.__path__, "avion_media."):
    if not any(part in module.name for part in ELSEWHERE):
        import_module(module.name)

KINDS = sorted(RECORDS)
WITH_FIELDS = [kind for kind in KINDS if (SAMPLES / f"{kind}.json").exists()]
BEYOND_CHANGE = {"copy_entry", "host_entry", "owner_entry", "upload_id"}  # a key, and what a MAC protects


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    UNREADABLE.counts.clear()
    UNREADABLE.found.clear()
    yield
    UNREADABLE.counts.clear()
    UNREADABLE.found.clear()


def document_of(kind: str) -> dict[str, Any]:
    """Return the fields of a sample."""
    found: dict[str, Any] = json.loads((SAMPLES / f"{kind}.json").read_text())
    return found


def stored(record: Record[Any], document: dict[str, Any]) -> Raw:
    """Return the fields of a record in its form."""
    return json.dumps(document).encode() if isinstance(record, JsonRecord) else document


def sample_of(kind: str) -> Raw:
    """Return a sample as it is stored."""
    if kind in WITH_FIELDS:
        return stored(RECORDS[kind], document_of(kind))
    return (SAMPLES / f"{kind}.txt").read_bytes().removesuffix(b"\n")


def key_of(kind: str) -> str:
    """Return a key for it, which ends in a media id."""
    return f"{kind}:{{Q1}}01M8D8AHEV0B0647EWDKZFG4Q1"


def test_every_kind_has_a_sample_and_every_sample_a_kind() -> None:
    assert sorted(path.stem for path in SAMPLES.iterdir()) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_is_read_and_written_again(kind: str) -> None:
    record = RECORDS[kind]
    value = record.read(sample_of(kind), key_of(kind))
    if isinstance(record, JsonRecord | HashRecord):
        written = record.write(value)
        assert record.read(written, key_of(kind)) == value
        names = json.loads(written) if isinstance(written, bytes) else written
        assert set(names) - {"v"} == set(record.fields)
    assert not UNREADABLE.counts


@pytest.mark.parametrize("kind", sorted({*KINDS} - BEYOND_CHANGE))
def test_a_field_of_a_later_version_is_ignored(kind: str) -> None:
    record = RECORDS[kind]
    value = record.read(sample_of(kind), key_of(kind))
    if kind in WITH_FIELDS:
        assert record.read(stored(record, {**document_of(kind), "tomorrow": "1"}), key_of(kind)) == value
    elif kind == "status":
        assert record.read(sample_of(kind) + b" tomorrow", key_of(kind)) == value  # type: ignore[operator]


def test_a_part_of_a_later_version_in_the_journal_is_ignored() -> None:
    record, document = RECORDS["journal"], document_of("journal")
    value = record.read(stored(record, document), "journal")
    document["media"] = [[*each, "tomorrow"] for each in document["media"]]
    assert record.read(stored(record, document), "journal") == value


@pytest.mark.parametrize("kind", WITH_FIELDS)
def test_a_record_without_an_optional_field_is_read(kind: str) -> None:
    record = RECORDS[kind]
    if isinstance(record, CustomRecord):
        return  # its fields are written together, by one script
    optional = [
        each.name for each in fields(record.of) if each.default is not MISSING or each.default_factory is not MISSING
    ]
    for name in [*optional, "v"]:
        document = {other: value for other, value in document_of(kind).items() if other != name}
        record.read(stored(record, document), key_of(kind))


def damaged(kind: str) -> dict[str, Raw]:
    """Return what no process can read, by what is wrong with it."""
    record, sample = RECORDS[kind], sample_of(kind)
    found: dict[str, Raw] = {}
    if isinstance(sample, bytes):
        found |= {"empty": b"", "not JSON": b"\x00\xff{"}
        if kind != "remote_use":  # a number
            found["cut off"] = sample[: len(sample) // 2]
        found |= {"deeply nested": b"[" * 100_000} if isinstance(record, JsonRecord) else {}
    else:
        required = next(iter(sample)) if isinstance(record, CustomRecord) else ""
        found |= {"cut off": {name: each for name, each in sample.items() if name != required}} if required else {}
    if not isinstance(record, CustomRecord):
        document = document_of(kind)
        found["a later version"] = stored(record, {**document, "v": "2"})
        found["not numbers"] = stored(record, dict.fromkeys(document, "\x00"))
    return found


@pytest.mark.parametrize(("kind", "damage"), [(kind, damage) for kind in KINDS for damage in damaged(kind)])
def test_what_cannot_be_read_is_skipped_named_and_counted_once(kind: str, damage: str) -> None:
    record, raw, key = RECORDS[kind], damaged(kind)[damage], key_of(kind)
    for _ in range(2):
        assert record.read_or_skip(raw, key) is None
        with pytest.raises(UnreadableRecord, match=kind):
            record.read(raw, key)
    assert UNREADABLE.counts == {kind: 1}
    assert list(UNREADABLE.first()) == [key]
    record.read(sample_of(kind), key)
    assert not UNREADABLE.first()


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("journal", "kind", "moved"),
        ("bulk_job", "state", "scheduled"),
        ("deletion", "state", "frozen"),
        ("remote_failure", "reason", "remote_asleep"),
        ("sweep", "part", "tomorrow"),
        ("facts", "format", "jxl"),
    ],
)
def test_a_kind_that_only_a_later_version_knows_is_skipped(kind: str, field: str, value: str) -> None:
    record = RECORDS[kind]
    assert record.read_or_skip(stored(record, {**document_of(kind), field: value}), key_of(kind)) is None
    assert UNREADABLE.counts == {kind: 1}


def test_a_state_that_only_a_later_version_knows_is_skipped() -> None:
    assert RECORDS["status"].read_or_skip(b"X", key_of("status")) is None
    assert UNREADABLE.counts == {"status": 1}


@pytest.mark.parametrize(("text", "state"), [(b"F tomorrow 1", State.FAILED), (b"P tomorrow", State.PROCESSING)])
def test_of_a_reason_that_only_a_later_version_knows_the_state_counts(text: bytes, state: State) -> None:
    status = RECORDS["status"].read(text, key_of("status"))
    assert (status.state, status.reason) == (state, None)


def test_a_process_remembers_a_bounded_number_of_records() -> None:
    record = RECORDS["journal"]
    for number in range(1100):
        record.read_or_skip(b"", f"journal/deletions/{number}")
    assert len(UNREADABLE.found) == 1000
    assert UNREADABLE.counts == {"journal": 1100}
