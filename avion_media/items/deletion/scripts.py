"""The Lua scripts of deletions, which make all transitions of the records."""

from __future__ import annotations

from importlib.resources import files

from avion_media.backends.redis import Script, load_script

_PRELUDE = (files("avion_media.items.deletion") / "lua/_prelude.lua").read_text()


def _load(name: str, *, takes_process: bool = False) -> Script:
    return load_script("avion_media.items.deletion", name, _PRELUDE, takes_process=takes_process)


NOW = _load("now")
READ = _load("read")
LOOK_UP = _load("look_up", takes_process=True)
MARK = _load("mark")
WRITE_HEARD = _load("write_heard")
BEGIN_REMOVAL = _load("begin_removal", takes_process=True)
FINISH_REMOVAL = _load("finish_removal")
ISSUE_UNDELETE = _load("issue_undelete")
UNDELETE = _load("undelete")
RESTORE = _load("restore")
READ_COMPLETENESS = _load("read_completeness", takes_process=True)
BEGIN_REPLAY = _load("begin_replay", takes_process=True)
END_REPLAY = _load("end_replay", takes_process=True)
NOTE_TIME = _load("note_time", takes_process=True)
