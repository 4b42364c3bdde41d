"""The pages about queues name the queues and keys that the code has, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from avion_media.backends.queue import QueueKeys
from avion_media.common.tasks import QUEUES
from avion_media.process.runtime import ROLES

DOCS = Path(__file__).parents[2] / "docs"
KEYS = QueueKeys("<queue>")
SINGLE_KEYS = [getattr(KEYS, name) for name, each in vars(QueueKeys).items() if isinstance(each, property)]
QUEUE_KEYS = {each for each in SINGLE_KEYS if isinstance(each, str)}
QUEUE_KEYS |= {KEYS.bulk_job("<kind>"), KEYS.bulk_items("<kind>"), KEYS.dedup_marker("<key>")}


def named(page: str) -> set[str]:
    return set(re.findall(r"`(\{<queue>\}:[^`]+)`", (DOCS / page).read_text()))


def test_the_page_about_queues_has_a_row_for_each() -> None:
    _, _, text = (DOCS / "queues.md").read_text().partition("| queue | its tasks | read by role |\n|---|---|---|\n")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| `(\w+)` \|$", text.partition("\n\n")[0], re.MULTILINE)
    assert [queue for queue, _ in rows] == list(QUEUES)
    assert {role for _, role in rows} <= set(ROLES)


def test_the_page_about_redis_lists_all_queues_and_which_are_of_this_service_only() -> None:
    (cell,) = re.findall(r"^\| (`\w+`, .+?) \| stream \| tasks;", (DOCS / "redis.md").read_text(), re.MULTILINE)
    shared, own = (re.findall(r"`(\w+)`", part) for part in cell.split("; only of this service:"))
    assert shared == [name for name, queue in QUEUES.items() if queue.public]
    assert own == [name for name, queue in QUEUES.items() if not queue.public]


def test_every_key_of_a_queue_is_on_the_page_about_redis() -> None:
    assert named("redis.md") == QUEUE_KEYS


def test_the_page_about_queues_names_no_other_keys() -> None:
    assert named("queues.md") <= QUEUE_KEYS


def arrows_of_the_picture() -> set[tuple[str, str, str]]:
    _, _, section = (DOCS / "deletions.md").read_text().partition("## The life of a deletion")
    found = re.findall(r"^ +(\S+) --> (\w+): (.+)$", section.partition("```\n")[0], re.MULTILINE)
    return {("no record" if start == "[*]" else start, operation, end) for start, end, operation in found}


def arrows_of_the_table() -> set[tuple[str, str, str]]:
    _, _, text = (DOCS / "deletions.md").read_text().partition("| operation ")
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.split("\n\n")[0].split("\n")
    )
    head = ["operation", *head]
    rows = [row for row in rows if "of the journal" not in row[0]]  # a replay writes what there was before a loss
    cells = [(state, row[0], cell) for row in rows for state, cell in zip(head[1:], row[1:], strict=True)]
    return {(state, operation, cell.removeprefix("→ ")) for state, operation, cell in cells if cell.startswith("→ ")}


def test_the_picture_of_a_deletion_has_every_transition_of_the_table_and_no_other() -> None:
    """The table is compared with the scripts, cell by cell, by tests/integration/items/deletion/test_table.py."""
    picture, table = arrows_of_the_picture(), arrows_of_the_table()
    assert picture <= table
    assert {(start, end) for start, _, end in picture} == {(start, end) for start, _, end in table}
