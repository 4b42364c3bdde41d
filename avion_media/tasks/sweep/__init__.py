"""The reconciliation of store and Redis: `avion-media sweep`, and the `sweeper` role with one leader."""

from avion_media.tasks.sweep.leadership import Leadership
from avion_media.tasks.sweep.listing import STORED_KINDS
from avion_media.tasks.sweep.notebook import START, Cursor, Notebook
from avion_media.tasks.sweep.policy import MEANINGS, Verdict, Why
from avion_media.tasks.sweep.reconciliation import Reconciliation
from avion_media.tasks.sweep.report import Refusal, Report, Tally

__all__ = [
    "MEANINGS",
    "START",
    "STORED_KINDS",
    "Cursor",
    "Leadership",
    "Notebook",
    "Reconciliation",
    "Refusal",
    "Report",
    "Tally",
    "Verdict",
    "Why",
]
