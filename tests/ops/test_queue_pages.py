"""The pages about queues name the keys that the code uses, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from avion_media.queue import QueueKeys

DOCS = Path(__file__).parents[2] / "docs"
KEYS = QueueKeys("<queue>")
OURS = {KEYS.state, KEYS.waiting, KEYS.tenants, KEYS.delayed, KEYS.dead_letters, KEYS.janitor}
OURS |= {KEYS.bulk_job("<kind>"), KEYS.bulk_items("<kind>"), KEYS.marker("<key>")}


def named(page: str) -> set[str]:
    return set(re.findall(r"`(\{<queue>\}:[^`]+)`", (DOCS / page).read_text()))


def test_every_key_of_a_queue_is_on_the_page_about_redis() -> None:
    assert named("redis.md") == OURS


def test_the_page_about_queues_names_no_other_keys() -> None:
    assert named("queues.md") <= OURS
