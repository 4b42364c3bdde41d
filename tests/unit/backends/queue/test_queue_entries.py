"""Entries are read whoever wrote them, and what we write we read back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from avion_media.backends.queue.entries import QueueEntry, delayed_member, flatten, task_fields
from avion_media.common.tasks import Task

ENTRY_IDS = st.integers(0, 2**53).map(lambda milliseconds: f"{milliseconds}-0".encode())


def encoded(fields: dict[str, str]) -> list[bytes]:
    return [str(part).encode(errors="replace") for part in flatten(fields)]


@given(ENTRY_IDS, st.lists(st.tuples(st.binary(), st.binary())))
def test_any_entry_can_be_read(entry_id: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    entry = QueueEntry.read(entry_id, [part for pair in pairs for part in pair])
    assert entry.task.task_id
    assert entry.attempts >= 0
    assert entry.deaths >= 0
    json.loads(delayed_member(entry.to_fields(attempts=1, error="failed")))


@given(
    st.builds(
        Task,
        task_id=st.text("abc-123", min_size=1),
        fields=st.dictionaries(st.sampled_from(["media_id", "type", "remote_url", "other"]), st.text("ä/x:💥 \n\0")),
        traceparent=st.sampled_from(["", "00-abc-def-01"]),
    ),
    st.integers(0, 100),
    st.lists(st.just("host-7-0a@1700000000.125"), max_size=3).map(" ".join),
    st.text(max_size=400).map(lambda text: text.encode(errors="replace").decode()),
)
def test_history_survives_the_way_through_the_delayed_set(task: Task, attempts: int, dead: str, error: str) -> None:
    first = QueueEntry("1700000000000-0", task, crashed_workers=dead, first_seen=1_700_000_000.125, once="k", replays=2)
    flat = json.loads(delayed_member(first.to_fields(attempts=attempts, error=error)))
    again = QueueEntry.read(b"1800000000000-0", [part.encode(errors="replace") for part in flat])
    assert again.task == task
    assert (again.attempts, again.crashed_workers, again.error) == (attempts, dead, error)
    assert (again.first_seen, again.once, again.replays) == (1_700_000_000.125, "k", 2)


def test_equal_tasks_are_one_member_whatever_the_order_of_fields() -> None:
    one = delayed_member({"task_id": "t", "a": "1", "b": "2"})
    assert one == delayed_member({"b": "2", "a": "1", "task_id": "t"})
    assert one.startswith('["task_id","t"')


def test_a_task_is_written_with_its_id_first() -> None:
    assert list(task_fields(Task("t", {"media_id": "m"}, "00-a-b-01"))) == ["task_id", "media_id", "traceparent"]
    assert list(task_fields(Task("t", {"media_id": "m"}))) == ["task_id", "media_id"]
