"""The invariants, by independent eyes: redis-py and boto3 only, nothing of the service's code.

A `Ledger` is what the test itself did and expects. `Checker.observe` is called again and again while things happen: it
notes what must never be seen even for a moment. `Checker.violations` is for the end, when all is at rest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from tests.service.published import GROUP, QUEUES, entries, key_of, original_key, read_status, thumbnail_key, unfinished

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SIZES = ("small", "medium", "large")
_FINAL = {"READY", "FAILED", "DELETED"}
JOURNAL = "journal/deletions/"
OWNER = "owner/crash/"  # whose all uploads are
SECRET = "secret/upload-ids"
EXAMINED = "incoming/examined-"  # what a replica writes as it starts; a sweep removes later what a crash leaves
_NOTICES, _GROUP = "drop_deleted", "media_drops"


@dataclass(frozen=True)
class Expected:
    """How one medium is to end. ``digests`` are those of its objects, by `role_of`; None: any bytes will do."""

    state: str
    reason: str = ""
    digests: dict[str, str] | None = None


@dataclass
class Entry:
    """One medium of the ledger: accepted, and perhaps deleted (``notice_id``: its notice, ``due``: Unix time)."""

    media_id: str
    expected: Expected
    notice_id: str = ""
    due: float = 0.0


Ledger = dict[str, Entry]


def keys_of(media_id: str) -> dict[str, str]:
    """Every key that a medium may have, by its role."""
    if len(media_id) == 64:
        thumbnails = {size: f"thumbnail/{size}/remote/{media_id}.jpg" for size in SIZES}
        return {"original": f"cached_remote/{media_id}", **thumbnails}
    thumbnails = {size: thumbnail_key(media_id, size) for size in SIZES}
    return {"incoming": f"incoming/{media_id}", "original": original_key(media_id), **thumbnails}


@dataclass
class Checker:
    """Looks at one Redis and one bucket."""

    client: Any  # redis-py, answers decoded
    s3: S3Client
    bucket: str
    ledger: Ledger = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)  # what must never be seen, but was

    def observe(self, media_id: str) -> bool:
        """Look at one medium while it is worked on; whether it and all queues are at rest."""
        state, entry = self._state(media_id), self.ledger[media_id]
        if entry.notice_id:
            self._observe_deletion(entry)
        missing = state == "READY" and self.digest(keys_of(media_id)["original"]) is None
        if missing and self._state(media_id) == "READY":
            self.seen.append(f"{media_id}: said to be READY without an original")
        wanted_event = {"READY": ".ready", "FAILED": ".failed", "DELETED": ".deleted"}[entry.expected.state]
        told = any(event["type"].endswith(wanted_event) for event in self._events(media_id))
        return state in _FINAL and told and not self.unfinished()

    def _observe_deletion(self, entry: Entry) -> None:
        handled = self._is_handled(entry.notice_id)
        if handled and self._state(entry.media_id) != "DELETED":
            self.seen.append(f"{entry.media_id}: its notice is acknowledged, but its status is not DELETED")
        before = time.time()
        if before < entry.due and self.digest(keys_of(entry.media_id)["original"]) is None:
            self.seen.append(f"{entry.media_id}: removed {entry.due - before:.2f} s too early")

    def _is_handled(self, entry_id: str) -> bool:
        try:
            (group,) = (each for each in self.client.xinfo_groups(_NOTICES) if each["name"] == _GROUP)
        except (redis.ResponseError, ValueError):
            return False
        return group["pending"] == 0 and _order(group["last-delivered-id"]) >= _order(entry_id)

    def unfinished(self) -> dict[str, int]:
        """Tasks anywhere, and notices that nobody acknowledged."""
        left = unfinished(self.client)
        if self.client.exists(_NOTICES):
            rows = self.client.xrange(_NOTICES, "-", "+")
            waiting = sum(not self._is_handled(entry_id) for entry_id, _ in rows[-1:])
            left |= {"notices": waiting} if waiting else {}
        return left

    def violations(self, media_ids: Iterable[str] | None = None) -> list[str]:
        """All that is wrong with these media (or all of the ledger), and with the queues."""
        ids = list(self.ledger if media_ids is None else media_ids)
        found = [f"unfinished: {name}: {count}" for name, count in self.unfinished().items()]
        found += self.seen
        for media_id in ids:
            found += self._wrong_with(self.ledger[media_id])
        if media_ids is None:
            found += self._unknown()
        return found

    def left_behind(self, alive: Iterable[str]) -> list[str]:
        """Consumers of processes that are gone. ``alive`` are beginnings of the others' names."""
        names = []
        for stream, group in [*((queue, GROUP) for queue in QUEUES)]:
            try:
                rows = self.client.xinfo_consumers(stream, group)
            except redis.ResponseError:
                continue
            names += [each["name"] for each in rows]
        return sorted({name for name in names if not name.startswith(tuple(alive))})

    def digest(self, key: str) -> str | None:
        """SHA-256 of an object; None when there is none."""
        try:
            body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return hashlib.sha256(body).hexdigest()

    def objects(self, media_id: str) -> dict[str, str]:
        """Digests of the objects that a medium has, by role."""
        found = {role: self.digest(key) for role, key in keys_of(media_id).items()}
        return {role: digest for role, digest in found.items() if digest is not None}

    def listed(self, prefix: str) -> list[tuple[str, int]]:
        """Keys and sizes of all objects below a prefix, in order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [(each["Key"], each["Size"]) for page in pages for each in page.get("Contents", ())]

    def _wrong_with(self, entry: Entry) -> list[str]:
        media_id, expected = entry.media_id, entry.expected
        found = []
        state, reason = self._state(media_id), self._reason(media_id)
        if (state, reason) != (expected.state, expected.reason):
            found.append(f"ended as {state} {reason}, not {expected.state} {expected.reason}")
        objects = self.objects(media_id)
        wanted = expected.digests if expected.digests is not None else objects
        if expected.state != "READY":
            wanted = {}
        elif "original" not in objects or "incoming" in objects:
            found.append(f"READY with {sorted(objects)}")
        if objects != wanted:
            found.append(f"objects {sorted(objects)}, not {sorted(wanted)}, or of other bytes")
        found += self._wrong_in_index(media_id, expected)
        types = [event["type"] for event in self._events(media_id)]
        ending = {"READY": "ready", "FAILED": "failed", "DELETED": "deleted"}[expected.state]
        if sum(each.endswith(ending) for each in types) != 1 or (types and not types[-1].endswith(ending)):
            found.append(f"events {types}")
        if len(types) > (2 if expected.state == "DELETED" else 1):
            found.append(f"too many events: {types}")
        return [f"{media_id}: {each}" for each in found]

    def _wrong_in_index(self, media_id: str, expected: Expected) -> list[str]:
        """What is wrong in the index of owners, and which parts of an upload are left."""
        found = self.listed(f"{OWNER}{media_id}.")
        held = sum(
            size for prefix in ("original/", "thumbnail/") for key, size in self.listed(prefix) if media_id in key
        )
        wanted = [(f"{OWNER}{media_id}.{held}", 0)] if expected.state == "READY" and len(media_id) == 26 else []
        wrong = [] if found == wanted else [f"its owner has {found}, not {wanted}"]
        left = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=f"incoming/{media_id}").get("Uploads", [])
        return wrong + [f"parts of {each['Key']} are left" for each in left]

    def _unknown(self) -> list[str]:
        """Objects and events of media that nobody asked for."""
        known = {key for media_id in self.ledger for key in keys_of(media_id).values()}
        stored = [key for key, _ in self.listed("")]
        ours = (JOURNAL, EXAMINED, OWNER, SECRET)
        strangers = [key for key in stored if key not in known and not key.startswith(ours)]
        ids = {json.loads(fields["event"])["media_id"] for fields in entries(self.client, "media_events")}
        return [f"unknown: {each}" for each in [*strangers, *sorted(ids - set(self.ledger))]]

    def _events(self, media_id: str) -> list[dict[str, Any]]:
        events = [json.loads(fields["event"]) for fields in entries(self.client, "media_events")]
        return [event for event in events if event["media_id"] == media_id]

    def _status(self, media_id: str) -> tuple[str, str]:
        return read_status(self.client.get(key_of("media_status", media_id)))

    def _state(self, media_id: str) -> str:
        if self.client.hget(key_of("media_deletion", media_id), "state") not in (None, "undeleted"):
            return "DELETED"
        return self._status(media_id)[0]

    def _reason(self, media_id: str) -> str:
        return "" if self._state(media_id) == "DELETED" else self._status(media_id)[1]


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
