"""The reconciliation of store and Redis: `avion-media sweep`, and the `sweeper` role with one leader."""

from avion_media.workers.sweep.listing import STORED_KINDS
from avion_media.workers.sweep.policy import MEANINGS, Decision, SweepReason
from avion_media.workers.sweep.reconciliation import Reconciliation
from avion_media.workers.sweep.report import Counts, Refusal, Report
from avion_media.workers.sweep.state import START, Cursor, SweepState

__all__ = [
    "MEANINGS",
    "START",
    "STORED_KINDS",
    "Counts",
    "Cursor",
    "Decision",
    "Reconciliation",
    "Refusal",
    "Report",
    "SweepReason",
    "SweepState",
]
