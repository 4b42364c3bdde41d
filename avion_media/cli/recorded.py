"""What each command changes, for the audit log: `act` refuses an action that is not in the row of its command."""

from __future__ import annotations

from typing import Final

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "init": ("init",),
    "import": ("import_media",),
    "delete": ("delete",),
    "undelete": ("undelete", "undelete_all"),
    "block": ("block",),
    "unblock": ("unblock",),
    "evidence hold": ("hold_evidence",),
    "evidence export": ("export_evidence",),
    "evidence discard": ("discard_evidence",),
    "owner export": ("export_owner",),
    "hosts block": ("block_host",),
    "hosts unblock": ("unblock_host",),
    "hosts purge": ("purge_host",),
    "blocklist import": ("import_list",),
    "review release": ("release",),
    "review block": ("refuse",),
    "review dismiss": ("dismiss",),
    "tokens rotate": ("rotate_tokens",),
    "queues pause": ("pause",),
    "queues resume": ("resume",),
    "queues cancel": ("cancel",),
    "dlq replay": ("replay", "replay_all"),
    "dlq drop": ("drop",),
    "jobs pause": ("pause_job",),
    "jobs resume": ("resume_job",),
    "jobs cancel": ("cancel_job",),
    "sweep": ("sweep",),
    # By the admin port of a service, which has it on record:
    "chaos": ("kill",),
    # By calls, which the service has on record:
    "upload": (),
    "cache": (),
    # Each process has its start and its end on record:
    "serve": (),
    "dev": (),
    # These change nothing that is stored; `doctor` removes what it writes:
    "audit": (),
    "audit export": (),
    "audit verify": (),
    "blocklist check": (),
    "blocklist list": (),
    "config": (),
    "dlq list": (),
    "dlq show": (),
    "doctor": (),
    "evidence list": (),
    "evidence show": (),
    "hosts list": (),
    "hosts not-cacheable": (),
    "hosts usage": (),
    "inspect": (),
    "jobs": (),
    "queues": (),
    "queues list": (),
    "review list": (),
    "status": (),
    "tree": (),
    "usage": (),
    "webhooks test": (),
}
"""Every command, by its words, and the actions that it carries out."""
