"""The Lua scripts: everything that decides is one of them, so that it happens whole and in one place."""

from __future__ import annotations

from importlib.resources import files

from avion_media.queue.entries import HISTORY, MAX_BYTES, MAX_FIELDS
from avion_media.redis import Script

_FOLDER = files("avion_media.queue") / "lua"
_BOUNDS = f"""\
local MAX_FIELDS, MAX_BYTES = {MAX_FIELDS}, {MAX_BYTES}
local HISTORY = {{ {", ".join(f"{name} = true" for name in HISTORY)} }}
"""
_PRELUDE = _BOUNDS + (_FOLDER / "_prelude.lua").read_text()


def _load(name: str) -> Script:
    return Script(name, f"{_PRELUDE}\n{(_FOLDER / f'{name}.lua').read_text()}")


ENQUEUE = _load("enqueue")
TAKE = _load("take")
RECLAIM = _load("reclaim")
WATCH = _load("watch")
RENEW = _load("renew")
COMPLETE = _load("complete")
RETRY = _load("retry")
HAND_BACK = _load("hand_back")
DEAD_LETTER = _load("dead_letter")
BURY_OVERSIZED = _load("bury_oversized")
PROMOTE = _load("promote")
REPLAY = _load("replay")
LOSS = _load("loss")
FORGET_LOSS = _load("forget_loss")
STATS = _load("stats")
REMOVE_IDLE_CONSUMERS = _load("remove_idle_consumers")
READ_STATUSES = _load("read_statuses")
PUT_STATUS = _load("put_status")
FORGET = _load("forget")
RECALL = _load("recall")
BEGIN_ANEW = _load("begin_anew")
PUBLISH_EVENT = _load("publish_event")
