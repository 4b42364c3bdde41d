"""Lua scripts, and which of them a full Redis runs.

At `maxmemory` with `noeviction`, Redis refuses commands that need memory. What was accepted before must still end: only
that makes memory free. So each script is listed here, by package and file. A script with ``allow-oom`` may exceed the
limit, but by less than Redis stores already for the work that the script ends. A script without a flag brings new work:
it is refused, and changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Final

_DECISIONS: Final = {
    "allow-oom": {
        "moves or ends a task": """
            queue/adopt queue/admit queue/complete queue/dead_letter queue/defer queue/promote queue/reclaim
            queue/release queue/renew queue/retry queue/take""",
        "makes a task without which another cannot end": "queue/follow_up",
        "keeps turns, limits and locks": """
            queue/settle remote/acquire remote/release trio_redis/release_lock trio_redis/renew_lock
            trio_redis/when_full""",
        "records the end of a task, or its next step": """
            state/put_status state/forget_status state/publish_event state/reset_failure deletion/begin_removal
            deletion/finish_removal""",
        "writes what Redis had before it lost data": """
            deletion/begin_replay deletion/restore deletion/end_replay deletion/note_time private/write
            queue/detect_data_loss queue/clear_data_loss""",
        "lets an operator stop work": "queue/pause queue/resume queue/cancel queue/steer_job queue/advance_job",
        "makes memory free": "queue/remove_idle_consumers",
    },
    "no-writes": {
        "reads": """
            queue/find_indexed queue/stats queue/task_ages state/load_remote state/read_statuses deletion/look_up
            deletion/now deletion/read deletion/read_completeness private/look_up private/read""",
    },
    "": {
        "brings a task": "queue/enqueue queue/replay queue/begin_job",
        "lets the sweep remove an upload, which can wait": "queue/claim",
        "notes who decides about a held media item": "moderation/change_claim",
        "begins or undoes a deletion, which can wait": """
            deletion/write_heard deletion/mark deletion/issue_undelete deletion/undelete""",
    },
}
FLAGS: Final = {
    name: flags for flags, lists in _DECISIONS.items() for names in lists.values() for name in names.split()
}


class Script:
    """A Lua script, known to the server by its digest.

    ``takes_process``: its last argument is the id of the server process that runs it (INFO's ``run_id``), or `UNKNOWN`.
    The adapter adds it.
    """

    def __init__(self, name: str, source: str, *, takes_process: bool = False) -> None:
        self.name = name
        self.source = source
        self.takes_process = takes_process
        # Redis prescribes this digest as a name; no secret depends on it.
        self.sha1 = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def load_script(
    package: str, name: str, prelude: str = "", *, decided_as: str = "", takes_process: bool = False
) -> Script:
    """Return the script of a file in the folder ``lua`` of a package, behind what it uses of its prelude.

    ``decided_as``: its name in the lists above, if that is not the file's. Raises KeyError for a script without a
    decision.
    """
    flags = FLAGS[f"{package.rpartition('.')[2]}/{decided_as or name}"]
    source = _linked(prelude, (files(package) / "lua" / f"{name}.lua").read_text())
    source = f"#!lua flags={flags}\n{source}" if flags else f"#!lua\n{source}"
    return Script(decided_as or name, source, takes_process=takes_process)


def _linked(prelude: str, source: str) -> str:
    """Return a script with the definitions of its prelude that it uses, each before the first statement that needs it.

    A script makes its functions each time that it runs: forty of them take as much of the server's time as ten
    commands. One that returns early does not make those that only the rest needs. Statements and definitions begin
    without indentation.
    """
    definitions = re.split(r"^(?=local )", _without_comments(prelude), flags=re.MULTILINE)
    linked = ""
    for statement in re.split(r"^(?=(?!end|else|[})])\S)", source, flags=re.MULTILINE):
        needed = statement
        for definition in reversed(definitions):
            names = re.match(r"local (?:function )?([\w, ]+)", definition)
            used = set(re.findall(r"\w+", _without_comments(needed)))
            if names is not None and definition not in linked and used.intersection(re.findall(r"\w+", names[1])):
                needed = definition + needed
        linked += needed
    return linked


def _without_comments(lua: str) -> str:
    return re.sub(r" *--.*\n?", "\n", lua)
