"""The audit log for tests: what a bucket has on record, and a log in memory for parts without a bucket."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from avion_media.common.errors import Dependency
from avion_media.common.resources import ResourceSlot
from avion_media.process.audit import AuditLog, AuditRecord
from avion_media.process.audit.record import SERVICE, Kind, kind_of, place_of, read_line

if TYPE_CHECKING:
    from tests.conftest import S3Bucket


def objects_in(bucket: S3Bucket) -> dict[str, bytes]:
    """Return all objects of the audit log, by key."""
    listed = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket, Prefix="audit/")
    keys = [each["Key"] for page in listed for each in page.get("Contents", ())]
    return {key: bucket.client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read() for key in keys}


def records_in(bucket: S3Bucket, kind: Kind = Kind.PEOPLE) -> list[AuditRecord]:
    """Return what a bucket has on record, of all processes, the oldest first, without what the log says of itself."""
    found: list[AuditRecord] = []
    for key, body in objects_in(bucket).items():
        place = place_of(key)
        if place is not None and kind_of(place.process) is kind:
            found += map(read_line, body.splitlines())
    return sorted((each for each in found if each.actor != SERVICE), key=lambda each: (each.time, each.seq))


class LogInMemory(AuditLog):
    """An audit log that every record reaches at once. ``refusals``: entrance, actor, action and code of each."""

    def __init__(self) -> None:
        super().__init__(ResourceSlot(Dependency.STORE), "this-process")
        self.records: list[AuditRecord] = []
        self.refusals: list[tuple[str, str, str, str]] = []

    async def require(self) -> None:
        """Accept every action."""

    async def record(self, records: Iterable[AuditRecord]) -> None:
        """Keep records."""
        self.records += records

    def refuse(self, entrance: str, actor: str, action: str, code: str, target: str = "") -> None:
        """Keep a refusal."""
        self.refusals.append((entrance, actor, action, code))
