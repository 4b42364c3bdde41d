"""The invariants, checked independently: with redis-py and boto3 only, without the service's code.

A `Ledger` has what the test did and expects. `Checker.observe` is called repeatedly while processes work: it records
what must not be visible even for a moment. `Checker.violations` is for the end, when nothing is left to do.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from avion_media.backends.queue.entries import UNCONFIRMED
from tests.service.published import GROUP, QUEUES, entries, key_of, original_key, read_status, thumbnail_key, unfinished

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

SIZES = ("small", "medium", "large")
_OTHER_QUEUES = ("media_webhook_queue", "media_purge_queue")
_FINAL = {"READY", "FAILED", "DELETED"}
JOURNAL = "journal/deletions/"
OWNER = "owner/crash/"  # the owner of all uploads
COPIES = ("sha256/", "size/")  # the index of originals by content
HOST = "host/127.0.0.1/"  # the host of all remote media
SECRETS = "secret/"
AUDIT = "audit/"
SECRET = f"{SECRETS}upload-ids"
TOKEN_KEYS = f"{SECRETS}media-tokens"
HOST_BLOCKS, REVOCATIONS = "moderation/hosts/", "private/"
BLOCKS = "moderation/blocked/"
OWN_ENTRIES, QUARANTINE = "blocklist/own/", "quarantine/"
MODERATED = ("moderation/", OWN_ENTRIES, QUARANTINE)
EXAMINED = "incoming/examined-"  # a replica writes it when it starts; a sweep removes what a crash left
_NOTICES, _GROUP = "drop_deleted", "media_drops"


@dataclass(frozen=True)
class Expected:
    """How one media item must end. ``digests`` are those of its objects, by their roles; None accepts any bytes.

    For a media item that must be blocked, they are those of its evidence.
    """

    state: str
    reason: str = ""
    digests: dict[str, str] | None = None

    @property
    def event(self) -> str:
        """The suffix of the type of its last event."""
        return self.reason if self.reason == "blocked" else self.state.lower()


@dataclass
class Entry:
    """One media item of the ledger: accepted, and perhaps deleted or blocked.

    ``notice_id``, ``due``: the notice of its deletion, and when its removal is due (Unix seconds). ``copies``: media
    items that must be blocked with it. ``acknowledged``: the call for it has returned. ``end``, of work that is no
    media item, returns what is wrong at its end, and None before it.
    """

    media_id: str
    expected: Expected
    notice_id: str = ""
    due: float = 0.0
    copies: tuple[str, ...] = ()
    acknowledged: bool = False
    end: Callable[[], list[str] | None] | None = None


Ledger = dict[str, Entry]


def keys_of(media_id: str) -> dict[str, str]:
    """Return every key that a media item may have, by its role."""
    if len(media_id) == 64:
        thumbnails = {size: f"thumbnail/{size}/remote/{media_id}.jpg" for size in SIZES}
        return {"original": f"cached_remote/{media_id}", **thumbnails}
    thumbnails = {size: thumbnail_key(media_id, size) for size in SIZES}
    return {"incoming": f"incoming/{media_id}", "original": original_key(media_id), **thumbnails}


@dataclass
class Checker:
    """Checks one Redis and one bucket."""

    client: Any  # redis-py, answers decoded
    s3: S3Client
    bucket: str
    origin: str = ""  # its address
    ledger: Ledger = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)  # violations that were visible for a moment

    def observe(self, media_id: str) -> bool:
        """Check one media item during the work. Return whether it has ended and all queues are empty."""
        state, entry = self._state(media_id), self.ledger[media_id]
        if entry.end is not None:
            wrong = entry.end()
            if wrong is None or self.unfinished():
                return False
            entry.end = lambda: wrong  # later looks would need its processes, and the fault may still happen
            return True
        if entry.notice_id:
            self._observe_deletion(entry)
        if entry.acknowledged and entry.expected.state == "DELETED" and self._state(media_id) != "DELETED":
            self.seen.append(f"{media_id}: its deletion is acknowledged, but its status is not DELETED")
        if entry.copies and not self._observe_block(entry):
            return False
        missing = state == "READY" and self.digest(keys_of(media_id)["original"]) is None
        if missing and self._state(media_id) == "READY":
            self.seen.append(f"{media_id}: said to be READY without an original")
        told = any(event["type"].endswith(f".{entry.expected.event}") for event in self._events(media_id))
        return state in _FINAL and told and not self.unfinished()

    def _observe_deletion(self, entry: Entry) -> None:
        handled = self._is_handled(entry.notice_id)
        if handled and self._state(entry.media_id) != "DELETED":
            self.seen.append(f"{entry.media_id}: its notice is acknowledged, but its status is not DELETED")
        before = time.time()
        if before < entry.due and self.digest(keys_of(entry.media_id)["original"]) is None:
            self.seen.append(f"{entry.media_id}: removed {entry.due - before:.2f} s too early")

    def _observe_block(self, entry: Entry) -> bool:
        """Return whether all origins know of the block, and nothing is left to do."""
        acknowledged, ids = entry.acknowledged, (entry.media_id, *entry.copies)
        found = {each: self._statuses_at_origin(each) for each in ids}
        if acknowledged and any(200 in statuses for statuses in found.values()):
            self.seen.append(f"{entry.media_id}: its block is acknowledged, but the origin serves {found}")
        at_rest = all(self.block_state(each) == "removed" for each in ids)
        return at_rest and all(statuses == {451} for statuses in found.values())

    def _statuses_at_origin(self, media_id: str) -> set[int]:
        """Return the HTTP statuses of the original and the thumbnails, as `statuses` does."""
        return self.statuses(f"/media/{media_id}", *(f"/thumbnail/{size}/{media_id}" for size in SIZES))

    def statuses(self, *paths: str) -> set[int]:
        """Return the HTTP statuses of paths at the origin; 0 while it is starting or stopping."""
        connection, found = http.client.HTTPConnection(self.origin, timeout=20), set()
        try:
            for path in paths:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                found.add(response.status)
        except (ConnectionError, http.client.HTTPException):
            return {0}
        finally:
            connection.close()
        return found

    def _is_handled(self, entry_id: str) -> bool:
        try:
            (group,) = (each for each in self.client.xinfo_groups(_NOTICES) if each["name"] == _GROUP)
        except (redis.ResponseError, ValueError):
            return False
        return group["pending"] == 0 and _order(group["last-delivered-id"]) >= _order(entry_id)

    def unfinished(self) -> dict[str, int]:
        """Return the number of tasks anywhere, and of notices that were not acknowledged."""
        left = unfinished(self.client, (*QUEUES, *_OTHER_QUEUES))
        if self.client.exists(_NOTICES):
            rows = self.client.xrange(_NOTICES, "-", "+")
            waiting = sum(not self._is_handled(entry_id) for entry_id, _ in rows[-1:])
            left |= {"notices": waiting} if waiting else {}
        return left

    def violations(self, media_ids: Iterable[str] | None = None) -> list[str]:
        """Return all violations of these media items (or of the whole ledger) and of the queues."""
        ids = list(self.ledger if media_ids is None else media_ids)
        if media_ids is not None:
            ids += [copy for each in ids for copy in self.ledger[each].copies]
        found = [f"unfinished: {name}: {count}" for name, count in self.unfinished().items()]
        found += self.seen
        for media_id in ids:
            found += self._wrong_with(self.ledger[media_id])
        if media_ids is None:
            found += self._unknown()
        return found

    def left_behind(self, alive: Iterable[str]) -> list[str]:
        """Return the consumers of dead processes. ``alive`` are prefixes of the names of the others."""
        names = []
        for stream, group in [*((queue, GROUP) for queue in QUEUES)]:
            try:
                rows = self.client.xinfo_consumers(stream, group)
            except redis.ResponseError:
                continue
            names += [each["name"] for each in rows if each["name"] != UNCONFIRMED]
        return sorted({name for name in names if not name.startswith(tuple(alive))})

    def block_state(self, media_id: str) -> str:
        """Return the state of a block; empty if there is none."""
        record = self.read(f"{BLOCKS}{media_id}")
        return "" if record is None else str(json.loads(record)["state"])

    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object; None if it does not exist."""
        try:
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def digest(self, key: str) -> str | None:
        """Return the SHA-256 of an object; None if it does not exist."""
        body = self.read(key)
        return None if body is None else hashlib.sha256(body).hexdigest()

    def objects(self, media_id: str) -> dict[str, str]:
        """Return the digests of a media item's objects, by role."""
        found = {role: self.digest(key) for role, key in keys_of(media_id).items()}
        return {role: digest for role, digest in found.items() if digest is not None}

    def listed(self, prefix: str) -> list[tuple[str, int]]:
        """Return keys and sizes of all objects below a prefix, in order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [(each["Key"], each["Size"]) for page in pages for each in page.get("Contents", ())]

    def _wrong_with(self, entry: Entry) -> list[str]:
        media_id, expected = entry.media_id, entry.expected
        if entry.end is not None:
            wrong = entry.end()
            return [f"{media_id}: {each}" for each in (["it has not ended"] if wrong is None else wrong)]
        found = []
        state, reason = self._state(media_id), self._reason(media_id)
        objects = self.objects(media_id)
        if state == "unknown" and "original" in objects:
            state = "READY"  # Redis forgets that after an hour, and the service looks into the store
        if (state, reason) != (expected.state, expected.reason):
            found.append(f"ended as {state} {reason}, not {expected.state} {expected.reason}")
        wanted = expected.digests if expected.digests is not None else objects
        if expected.state != "READY":
            wanted = {}
        elif "original" not in objects or "incoming" in objects:
            found.append(f"READY with {sorted(objects)}")
        if objects != wanted:
            found.append(f"objects {sorted(objects)}, not {sorted(wanted)}, or of other bytes")
        found += self._wrong_in_index(media_id, expected.state)
        if expected.reason == "blocked":
            found += self._wrong_with_blocked(media_id, expected)
        types = [event["type"] for event in self._events(media_id)]
        ending = expected.event
        if sum(each.endswith(ending) for each in types) != 1 or (types and not types[-1].endswith(ending)):
            found.append(f"events {types}")
        if len(types) > (2 if expected.state == "DELETED" else 1):
            found.append(f"too many events: {types}")
        return [f"{media_id}: {each}" for each in found]

    def _wrong_with_blocked(self, media_id: str, expected: Expected) -> list[str]:
        """Return which of its objects are still served, and which evidence is missing."""
        statuses = self._statuses_at_origin(media_id)
        found = [] if statuses == {451} else [f"blocked, but the origin says {statuses}"]
        if self.block_state(media_id) != "removed":
            found.append(f"its block is {self.block_state(media_id)}")
        evidence = {
            "original" if role == "original" else f"thumbnail-{role}": digest
            for role, digest in (expected.digests or {}).items()
        }
        kept = {name: self.digest(f"{QUARANTINE}{media_id}/{name}") for name in evidence}
        return found if kept == evidence else [*found, f"evidence {kept}, not {evidence}"]

    def wrong_with_unblocked(self, media_ids: Iterable[str]) -> list[str]:
        """Return what is wrong with media items that were blocked and must be served again."""
        found = [f"{key} is left" for key, size in self.listed(OWN_ENTRIES) if size]
        for media_id in media_ids:
            if self.objects(media_id) != self.ledger[media_id].expected.digests:
                found.append(f"{media_id}: unblocked, but its objects are {sorted(self.objects(media_id))}")
            if (statuses := self._statuses_at_origin(media_id)) != {200}:
                found.append(f"{media_id}: unblocked, but the origin says {statuses}")
            found += [f"{media_id}: {each}" for each in self._wrong_in_index(media_id, "READY")]
            if (state := self.block_state(media_id)) != "lifted":
                found.append(f"{media_id}: unblocked, but its block is {state}")
        return found

    def forget(self, media_ids: Iterable[str]) -> None:
        """Remove all traces of these media items, and the expectations about them."""
        ids = set(media_ids)
        for key, _ in self.listed(""):
            if any(each in key for each in ids):
                self.s3.delete_object(Bucket=self.bucket, Key=key)
        for entry_id, fields in self.client.xrange("media_events"):
            if json.loads(fields["event"])["media_id"] in ids:
                self.client.xdel("media_events", entry_id)
        for each in ids:
            del self.ledger[each]

    def _wrong_in_index(self, media_id: str, state: str) -> list[str]:
        """Return what is wrong in the indexes of owners, hosts and copies, and which parts of an upload are left."""
        found = self.listed(f"{OWNER}{media_id}.")
        found += [each for each in self.listed(HOST) if f"/{media_id}." in each[0]]
        served = ("original/", "thumbnail/", "cached_remote/")
        held = sum(size for prefix in served for key, size in self.listed(prefix) if media_id in key)
        entry = f"{OWNER}{media_id}.{held}" if len(media_id) == 26 else f"{HOST}{media_id}.{held}.attachment"
        wanted = [(entry, 0)] if state == "READY" else []
        wrong = [] if found == wanted else [f"its owner or host has {found}, not {wanted}"]
        indexed = [key for prefix in COPIES for key, _ in self.listed(prefix) if key.endswith(f"/{media_id}")]
        copies = self._wanted_in_copies(media_id)
        wrong += [] if indexed == copies else [f"the index of copies has {indexed}, not {copies}"]
        left = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix=f"incoming/{media_id}").get("Uploads", [])
        return wrong + [f"parts of {each['Key']} are left" for each in left]

    def _wanted_in_copies(self, media_id: str) -> list[str]:
        try:
            original = self.s3.get_object(Bucket=self.bucket, Key=keys_of(media_id)["original"])
        except self.s3.exceptions.NoSuchKey:
            return []
        if "sha256" in original["Metadata"]:
            return [f"sha256/{hashlib.sha256(original['Body'].read()).hexdigest()}/{media_id}"]
        return [f"size/{original['ContentLength']}/{media_id}"]

    def _unknown(self) -> list[str]:
        """Return objects and events of media items that the test did not create."""
        known = {key for media_id in self.ledger for key in keys_of(media_id).values()}
        stored = [key for key, _ in self.listed("")]
        ours = (AUDIT, JOURNAL, EXAMINED, OWNER, HOST, SECRETS, OWN_ENTRIES, HOST_BLOCKS, REVOCATIONS, *COPIES)
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
