"""The Lua scripts. Every decision about tasks is one script, so that it is atomic."""

from __future__ import annotations

from importlib.resources import files

from avion_media.backends.queue.entries import HISTORY, MAX_BYTES, MAX_FIELDS, UNCONFIRMED, WAITING_HEADER
from avion_media.backends.redis import Script, load_script
from avion_media.common.formats import FORMATS, Family
from avion_media.common.ids import ALPHABET
from avion_media.common.tasks import CONSUMER_GROUP, PROCESSING_QUEUE

_MAX_DEAD_LETTERS = 100_000  # beyond this the oldest are removed: a flood of them must not fill Redis
_FOLDER = files("avion_media.backends.queue") / "lua"
_PRELUDE = f"""\
local MAX_FIELDS, MAX_BYTES, MAX_DEAD_LETTERS = {MAX_FIELDS}, {MAX_BYTES}, {_MAX_DEAD_LETTERS}
""" + (_FOLDER / "_prelude.lua").read_text()
_DISPATCH = f"""\
local GROUP, LANED, ALPHABET = '{CONSUMER_GROUP}', '{PROCESSING_QUEUE}', '{ALPHABET}'
local VIDEO_CODES = ' {" ".join(str(each.code) for each in FORMATS if each.family is not Family.IMAGE)} '
local HEADER, UNCONFIRMED = {WAITING_HEADER}, '{UNCONFIRMED}'
""" + (_FOLDER / "_dispatch.lua").read_text()
# A script makes all functions of its preludes each time that it runs, so these two are only where they are needed.
_LIMITS = f"""\
local HISTORY = {{ {", ".join(f"{name} = true" for name in HISTORY)} }}
""" + (_FOLDER / "_limits.lua").read_text()
_REQUEUE = (_FOLDER / "_requeue.lua").read_text()


def _load(name: str, *, takes_process: bool = False) -> Script:
    return load_script("avion_media.backends.queue", name, _PRELUDE, takes_process=takes_process)


def _load_moving(name: str, *more: str, decided_as: str = "") -> Script:
    """A script that moves tasks: its first keys are `QueueKeys.dispatch`."""
    return load_script("avion_media.backends.queue", name, _PRELUDE, _DISPATCH, *more, decided_as=decided_as)


ENQUEUE = _load_moving("enqueue")
FOLLOW_UP = _load_moving("enqueue", decided_as="follow_up")
TASK_AGES = _load("task_ages")
CLAIM = _load("claim")
CANCEL = _load("cancel")
TAKE = _load_moving("take")
ADMIT = _load_moving("admit", _LIMITS, _REQUEUE)
RECLAIM = _load_moving("reclaim", _LIMITS, _REQUEUE)
ADOPT = _load_moving("adopt", _LIMITS)
SETTLE = _load_moving("settle")
PAUSE = _load_moving("pause", _LIMITS)
RESUME = _load_moving("resume")
BEGIN_JOB = _load("begin_job")
ADVANCE_JOB = _load("advance_job")
STEER_JOB = _load("steer_job")
RENEW = _load("renew")
COMPLETE = _load_moving("complete")
RETRY = _load_moving("retry")
DEFER = _load_moving("defer")
RELEASE = _load_moving("release", _LIMITS, _REQUEUE)
DEAD_LETTER = _load_moving("dead_letter")
PROMOTE = _load_moving("promote", _LIMITS)
REPLAY = _load_moving("replay", _LIMITS)
PRUNE_INDEX = _load("prune_index")
FIND_INDEXED = _load("find_indexed")
DETECT_DATA_LOSS = _load("detect_data_loss", takes_process=True)
CLEAR_DATA_LOSS = _load("clear_data_loss")
STATS = _load_moving("stats")
REMOVE_IDLE_CONSUMERS = _load("remove_idle_consumers")
