"""What a sweep found and did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from avion_media.common.errors import Dependency, Unavailable
from avion_media.items.moderation.evidence import Kept
from avion_media.items.state.sweep_state import SweepPart
from avion_media.workers.sweep.policy import SweepDecision, SweepReason


@dataclass(slots=True)
class Counts:
    """Totals of one reason: media items, and their removed objects and bytes."""

    media: int = 0
    objects: int = 0
    size_bytes: int = 0

    def add(self, decision: SweepDecision) -> None:
        """Count one more."""
        self.media += 1
        self.objects += len(decision.to_delete)
        self.size_bytes += decision.size_bytes


@dataclass(slots=True)
class Stored:
    """Totals of one kind of object."""

    objects: int = 0
    size_bytes: int = 0

    def add(self, objects: int, size_bytes: int) -> None:
        """Count more."""
        self.objects += objects
        self.size_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused part: removing ``wanted`` of ``listed`` objects is more than is ``allowed``."""

    part: SweepPart
    wanted: int
    allowed: int
    listed: int

    def __str__(self) -> str:
        return (
            f"{self.part}: the sweep would remove {self.wanted} of {self.listed} objects, more than the limit of "
            f"{self.allowed}"
        )


@dataclass(slots=True)
class Report:
    """One sweep. ``done`` counts what was carried out, or in a dry run, what would be.

    ``skipped``: media items that were left as they are, because they changed before they were removed, because they
    have a task, or because the store cannot read or remove one of their objects. ``unrecognized``: objects whose key
    has no media id.
    """

    dry_run: bool
    listed: int = 0
    unrecognized: int = 0
    skipped: int = 0
    unreadable: int = 0  # of ``skipped``: because of the store
    done: dict[SweepReason, Counts] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    """Totals by kind of object; empty if not everything was listed."""

    @contextmanager
    def skipping_unreadable(self) -> Iterator[None]:
        """If the store fails for one object only, skip the media item, so that the sweep comes to its end."""
        try:
            yield
        except Unavailable as error:
            if error.dependency is not Dependency.OBJECT:
                raise
            self.skipped += 1
            self.unreadable += 1
            if self.unreadable == 1:
                self.warnings.append(f"objects that cannot be read or removed were skipped, the first: {error.detail}")

    def count(self, decision: SweepDecision) -> None:
        """Count a decision that was carried out."""
        self.done.setdefault(decision.reason, Counts()).add(decision)

    def count_unfinished(self) -> None:
        """Count a multipart upload that was aborted. The object store does not report how many bytes that frees."""
        self.done.setdefault(SweepReason.UNFINISHED, Counts()).media += 1

    def count_evidence(self, kept: Kept) -> None:
        """Count the evidence of one media item that was removed."""
        counts = self.done.setdefault(SweepReason.EVIDENCE, Counts())
        counts.media += 1
        counts.objects += len(kept.files)
        counts.size_bytes += kept.size_bytes

    def count_object(self, reason: SweepReason) -> None:
        """Count an empty object that was removed."""
        counts = self.done.setdefault(reason, Counts())
        counts.media += 1
        counts.objects += 1

    def refuse(self, refusal: Refusal) -> None:
        """Record the refusal of a part. A dry run continues, and replaces it by one with higher numbers."""
        self.refusals = [each for each in self.refusals if each.part is not refusal.part] + [refusal]

    @property
    def removed(self) -> int:
        """Objects removed."""
        return sum(counts.objects for counts in self.done.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, for programs."""
        return {
            "dry_run": self.dry_run,
            "listed": self.listed,
            "unrecognized": self.unrecognized,
            "skipped": self.skipped,
            "done": {
                str(reason): {"media": counts.media, "objects": counts.objects, "bytes": counts.size_bytes}
                for reason, counts in sorted(self.done.items())
            },
            "refused": [
                {"part": str(each.part), "wanted": each.wanted, "allowed": each.allowed, "listed": each.listed}
                for each in self.refusals
            ],
            "warnings": self.warnings,
            "stored": {
                kind: {"objects": each.objects, "bytes": each.size_bytes} for kind, each in sorted(self.stored.items())
            },
        }
