"""The reconciliation of store and Redis: `avion-media sweep`, and the `sweeper` role with one leader."""

from avion_media.workers.sweep.listing import STORED_KINDS
from avion_media.workers.sweep.policy import MEANINGS, SweepDecision, SweepReason
from avion_media.workers.sweep.reconciliation import Reconciliation
from avion_media.workers.sweep.report import Report
