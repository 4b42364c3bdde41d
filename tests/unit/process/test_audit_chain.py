"""The chain of audit records: what a check names, when a line, an object, or an end is missing or was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime

import pytest

from avion_media.process.audit.record import (
    END,
    EXPIRED,
    LOST,
    MAX_TARGETS,
    START,
    AuditRecord,
    Kind,
    canonical,
    drafts,
    hash_of,
    kind_of,
    object_key,
    owner_of,
    place_of,
    read_line,
    seal,
    write_line,
)
from avion_media.process.audit.verification import ChainChecker, Findings, seam

DAYS = (date(2026, 12, 7), date(2026, 12, 8))
NAME = "media-0-17-0a1b2c3d"
Objects = dict[str, bytes]


def action(name: str, target: Sequence[str] | int = ("a",)) -> AuditRecord:
    (draft,) = drafts("console", "ada", name, target, note="ticket 7", at=1765100000.0)
    return draft


def chain(process: str, actions: Sequence[AuditRecord], per_object: int = 2, days: Sequence[date] = DAYS) -> Objects:
    """The objects of a chain, of which the second half is from the next day."""
    records: list[AuditRecord] = []
    for number, each in enumerate(actions, 1):
        records.append(seal(each, process, number, records[-1].hash if records else ""))
    groups = [records[first : first + per_object] for first in range(0, len(records), per_object)]
    return {
        object_key(days[number * 2 > len(groups)], process, number): b"".join(map(write_line, group))
        for number, group in enumerate(groups, 1)
    }


def whole(process: str = NAME) -> Objects:
    return chain(process, [action(each) for each in (START, "pause", "block", "resume", "delete", END)])


def check(objects: Objects, *, running: bool = False, hashes: dict[str, list[str]] | None = None) -> Findings:
    checker = ChainChecker(hashes)
    for key in sorted(objects):
        checker.add(key, objects[key])
    return checker.finish(lambda _process, _last: running)


def without(objects: Objects, *numbers: int) -> Objects:
    return {key: body for index, (key, body) in enumerate(objects.items(), 1) if index not in numbers}


def changed(objects: Objects, index: int, change: Callable[[list[bytes]], list[bytes]]) -> Objects:
    key = list(objects)[index]
    return objects | {key: b"".join(change(objects[key].splitlines(keepends=True)))}


def test_the_hash_can_be_computed_without_this_code() -> None:
    record = seal(action("block", ["Zoë"]), NAME, 1, "")
    document = json.loads(write_line(record))
    stated = document.pop("hash")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest()
    assert sorted(document) == sorted(
        "seq time process entrance actor action target outcome note trace prev".split()  # noqa: SIM905 - as printed
    )
    assert read_line(write_line(record)) == record


def test_a_whole_chain_has_no_gap_and_runs_on_over_midnight() -> None:
    found = check(whole())
    assert (found.gaps, found.explained, found.running) == ([], [], [])
    assert (found.chains, found.objects, found.records) == (1, 3, 6)


def test_a_removed_object_is_named_with_its_records() -> None:
    assert check(without(whole(), 2)).gaps == [
        f"{NAME}: object 2 with records 3 to 4: missing before audit/2026/12/08/{NAME}/00000003.jsonl, line 1"
    ]


def test_removed_objects_at_the_beginning_are_named() -> None:
    assert check(without(whole(), 1)).gaps == [f"{NAME}: object 1: missing at the beginning of the chain"]


def test_a_changed_line_is_named() -> None:
    def change(lines: list[bytes]) -> list[bytes]:
        return [lines[0].replace(b"ticket 7", b"ticket 8"), *lines[1:]]

    (gap,) = check(changed(whole(), 1, change)).gaps
    assert gap.startswith(f"{NAME}/3: the record was changed")


def test_a_changed_line_with_a_new_hash_does_not_fit_the_next_one() -> None:
    def change(lines: list[bytes]) -> list[bytes]:
        record = replace(read_line(lines[0]), note="ticket 8")
        return [write_line(replace(record, hash=hash_of(record))), *lines[1:]]

    (gap,) = check(changed(whole(), 1, change)).gaps
    assert gap == f"{NAME}/4: it does not follow record 3, one of the two was changed"


def test_a_removed_line_is_named() -> None:
    (gap,) = check(changed(whole(), 1, lambda lines: lines[1:])).gaps
    assert gap == f"{NAME}: record 3: missing before audit/2026/12/08/{NAME}/00000002.jsonl, line 1"


@pytest.mark.parametrize("line", [b"{}\n", b"nonsense\n", b"\xff\n", b'{"target":[],"seq":1}\n', b"[]\n"])
def test_a_line_that_is_no_record_is_named(line: bytes) -> None:
    key = list(whole())[1]
    assert f"{key}, line 3: not a record" in check(changed(whole(), 1, lambda lines: [*lines, line])).gaps


def test_an_object_that_is_not_of_the_log_is_named() -> None:
    key = f"audit/2026/12/07/{NAME}/1.jsonl"
    assert check({key: b""}).gaps == [f"{key}: not an object of the audit log"]


def test_a_missing_end_is_named_unless_the_process_runs() -> None:
    objects = without(whole(), 3)
    (gap,) = check(objects).gaps
    assert gap.startswith(f"{NAME}: no end after record 4 of 2025-12-07T")
    found = check(objects, running=True)
    assert not found.gaps
    assert found.running == [f"{NAME}: open after record 4, its process runs"]


def lost(objects: Objects, number: int) -> Objects:
    last = read_line(objects[list(objects)[number - 1]].splitlines()[-1])
    return chain("other", [action(START), action(LOST, [seam(NAME, number, last)]), action(END)])


def test_a_record_lost_explains_a_missing_end() -> None:
    objects = without(whole(), 3)
    found = check(objects | lost(objects, 2))
    assert not found.gaps
    assert found.explained == [
        f"{NAME}: no end after record 4 of 2025-12-07T09:33:20.000+00:00; explained: its process was lost"
    ]


def test_what_was_removed_after_its_process_was_lost_is_named() -> None:
    objects = without(whole(), 3)
    (gap,) = check(without(objects, 2) | lost(objects, 2)).gaps
    assert gap.endswith("although it went on until its process was lost")


def test_a_process_that_was_taken_for_lost_and_goes_on_is_no_gap() -> None:
    objects = without(whole(), 3)
    wrong = lost(objects, 1)
    assert check(objects | wrong, running=True).running == [f"{NAME}: open after record 4, its process runs"]
    assert not check(whole() | wrong).gaps
    (gap,) = check(objects | wrong).gaps
    assert gap.startswith(f"{NAME}: no end after record 4")


def test_a_chain_whose_beginning_was_removed_for_its_age_is_whole() -> None:
    objects = whole()
    last = read_line(objects[next(iter(objects))].splitlines()[-1])
    sweep = chain("other", [action(START), action(EXPIRED, [seam(NAME, 1, last)]), action(END)])
    assert not check(without(objects, 1) | sweep).gaps
    assert check(without(objects, 1, 2) | sweep).gaps == [
        f"{NAME}: objects 1 to 2: missing at the beginning of the chain"
    ]


def test_a_rewritten_chain_is_noticed_by_a_hash_from_the_log() -> None:
    objects = whole()
    noted = read_line(objects[list(objects)[1]].splitlines()[-1]).hash
    assert not check(objects, hashes={NAME: [noted]}).gaps
    rewritten = chain(NAME, [action(each) for each in (START, "pause", END)])
    assert check(rewritten, hashes={NAME: [noted]}).gaps == [f"{NAME}: no record has the hash {noted}"]


def test_a_range_can_cut_chains() -> None:
    checker = ChainChecker()
    key = list(whole())[1]
    checker.add(key, whole()[key])
    assert not checker.finish(lambda _process, _last: False, begins_whole=False, ends_whole=False).gaps


def test_many_targets_are_several_records_and_a_long_note_is_cut() -> None:
    ids = [f"id-{number}" for number in range(2 * MAX_TARGETS + 1)]
    found = list(drafts("grpc", "gateway", "delete_media", ids, note="x" * 5000))
    assert [len(each.target) for each in found if not isinstance(each.target, int)] == [1000, 1000, 1]
    assert len(found[0].note) == 2000


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        (f"audit/2026/12/07/{NAME}.calls/00000012.jsonl", True),
        (f"audit/2026/12/07/{NAME}/12.jsonl", False),
        (f"audit/2026/13/07/{NAME}/00000012.jsonl", False),
        (f"audit/{NAME}/00000012.jsonl", False),
        (f"audit/2026/12/07/{NAME}/00000012.json", False),
    ],
)
def test_keys_say_day_chain_and_number(key: str, is_one: bool) -> None:
    place = place_of(key)
    assert (place is not None) is is_one
    if place is not None:
        assert (kind_of(place.process), owner_of(place.process)) == (Kind.CALLS, NAME)


def test_lone_surrogates_of_an_argument_can_be_recorded() -> None:
    record = seal(action("import_media", ["caf\udce9.csv"]), NAME, 1, "")
    assert read_line(write_line(record)) == record
    assert canonical(asdict(record)).isascii()


def test_a_record_is_found_by_its_fields_and_its_day() -> None:
    record = seal(action("block", ["01ABC"]), NAME, 1, "")
    at = datetime.fromtimestamp(record.at, UTC)
    for text in ("ADA", "01ab", "ticket", "console", f"{at:%Y-%m-%d}", "7 Dec 2025"):
        assert record.contains(text), text
    assert not record.contains("bob")
