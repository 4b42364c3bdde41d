"""The Lua scripts of statuses, remote state and events."""

from __future__ import annotations

from functools import partial

from avion_media.backends.redis import load_script

_load = partial(load_script, "avion_media.items.state")

READ_STATUSES = _load("read_statuses")
PUT_STATUS = _load("put_status")
FORGET_STATUS = _load("forget_status")
LOAD_REMOTE = _load("load_remote")
RESET_FAILURE = _load("reset_failure")
PUBLISH_EVENT = _load("publish_event")
