"""Which of the service's Lua scripts a full Redis runs.

At `maxmemory` with `noeviction`, Redis refuses commands that need memory. What was accepted before must still end: only
that makes memory free. So each script is listed here, by package and file. A script with ``allow-oom`` may exceed the
limit, but by less than Redis stores already for the work that the script ends. A script without a flag brings new work:
it is refused, and changes nothing. Locks have ``allow-oom``, in trio_redis.
"""

from __future__ import annotations

from typing import Final

import trio_redis
from trio_redis import Script

_DECISIONS: Final = {
    "allow-oom": {
        "moves or ends a task": """
            queue/adopt queue/admit queue/complete queue/dead_letter queue/defer queue/promote queue/reclaim
            queue/release queue/renew queue/retry queue/take""",
        "makes a task without which another cannot end": "queue/follow_up",
        "keeps turns and limits": "queue/settle remote/acquire remote/release",
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


def load_script(
    package: str, name: str, prelude: str = "", *, decided_as: str = "", takes_process: bool = False
) -> Script:
    """Return the script of a file in the folder ``lua`` of a package, behind what it uses of its prelude.

    ``decided_as``: its name in the lists above, if that is not the file's. Raises KeyError for a script without a
    decision.
    """
    flags = FLAGS[f"{package.rpartition('.')[2]}/{decided_as or name}"]
    return trio_redis.load_script(package, name, prelude, flags=flags, name=decided_as, takes_process=takes_process)
