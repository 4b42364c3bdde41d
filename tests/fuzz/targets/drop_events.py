"""``drop_deleted`` events, which another service writes: none makes the parser raise."""

from __future__ import annotations

import json

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.items.deletion import parse_notice
from tests.fuzz.parser import parser_target

_IDS = [new_media_id(JPEG, 1_700_000_000_000 + number).text for number in range(3)] + ["ab" * 32]


def _seeds() -> list[bytes]:
    events: list[object] = [{"media_ids": _IDS}, {"media_ids": [], "more": {"a": [1, None]}}, [], "text", 1e300]
    return [*(json.dumps(event).encode() for event in events), b"[" * 5000, b'{"media_ids":' * 2000, b"\xff\xfe{\0}\0"]


def _feed(data: bytes) -> None:
    drop = parse_notice(data, "1-0")
    assert len(set(drop.media_ids)) == len(drop.media_ids), "an id twice"


TARGET = parser_target("drop-events", _seeds, _feed, weight=0.5)
