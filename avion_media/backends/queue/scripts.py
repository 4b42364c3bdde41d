"""The Lua scripts. Every decision about tasks is one script, so that it is atomic."""

from __future__ import annotations

from importlib.resources import files

from avion_media.backends.queue.entries import CONFIRM_S, HISTORY, MAX_BYTES, MAX_FIELDS, UNCONFIRMED, WAITING_HEADER
from avion_media.backends.redis import Script, load_script
from avion_media.common.formats import FORMATS, Family
from avion_media.common.ids import ALPHABET
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE

_MAX_DEAD_LETTERS = 100_000  # beyond this the oldest are removed: a flood of them must not fill Redis
_FOLDER = files("avion_media.backends.queue") / "lua"
_PRELUDE = f"""\
local MAX_FIELDS = {MAX_FIELDS}
local MAX_BYTES = {MAX_BYTES}
local MAX_DEAD_LETTERS = {_MAX_DEAD_LETTERS}
local GROUP = '{CONSUMER_GROUP}'
local LANED = '{PROCESSING_QUEUE}'
local ALPHABET = '{ALPHABET}'
local HEADER = {WAITING_HEADER}
local UNCONFIRMED = '{UNCONFIRMED}'
local CONFIRM_MS = {CONFIRM_S * 1000:.0f}
local VIDEO_CODES = ' {" ".join(str(each.code) for each in FORMATS if each.family is not Family.IMAGE)} '
local HISTORY = {{ {", ".join(f"{name} = true" for name in HISTORY)} }}
""" + "".join((_FOLDER / f"_{name}.lua").read_text() for name in ("prelude", "dispatch", "limits", "requeue", "admit"))


def _load(name: str, *, decided_as: str = "", takes_process: bool = False) -> Script:
    return load_script("avion_media.backends.queue", name, _PRELUDE, decided_as=decided_as, takes_process=takes_process)


ENQUEUE = _load("enqueue")
FOLLOW_UP = _load("enqueue", decided_as="follow_up")
TASK_AGES = _load("task_ages")
CLAIM = _load("claim")
CANCEL = _load("cancel")
TAKE = _load("take")
ADMIT = _load("admit")
RECLAIM = _load("reclaim")
ADOPT = _load("adopt")
SETTLE = _load("settle")
PAUSE = _load("pause")
RESUME = _load("resume")
BEGIN_JOB = _load("begin_job")
ADVANCE_JOB = _load("advance_job")
STEER_JOB = _load("steer_job")
RENEW = _load("renew")
COMPLETE = _load("complete")
RETRY = _load("retry")
DEFER = _load("defer")
RELEASE = _load("release")
DEAD_LETTER = _load("dead_letter")
PROMOTE = _load("promote")
REPLAY = _load("replay")
FIND_INDEXED = _load("find_indexed")
DETECT_DATA_LOSS = _load("detect_data_loss", takes_process=True)
CLEAR_DATA_LOSS = _load("clear_data_loss")
STATS = _load("stats")
REMOVE_IDLE_CONSUMERS = _load("remove_idle_consumers")
