"""The Lua scripts of statuses, remote state and events."""

from __future__ import annotations

from importlib.resources import files

from avion_media.redis import Script

_FOLDER = files("avion_media.state") / "lua"


def _load(name: str) -> Script:
    return Script(name, (_FOLDER / f"{name}.lua").read_text())


READ_STATUSES = _load("read_statuses")
PUT_STATUS = _load("put_status")
FORGET_STATUS = _load("forget_status")
LOAD_REMOTE = _load("load_remote")
RESET_FAILURE = _load("reset_failure")
PUBLISH_EVENT = _load("publish_event")
