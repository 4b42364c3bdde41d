"""Work that is no media item's: blocks and purges of hosts, tokens and their revocation, webhooks and purges of a CDN.

Each function adds one piece of work to a lane, and returns the id by which the ledger knows it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import grpc
import redis

from avion_media.common.wire.avion import media_pb2 as wire
from tests.crash.checker import HOST_BLOCKS, REVOCATIONS, SIZES, TOKEN_KEYS, Entry, Expected, keys_of
from tests.crash.lane import HOOKED, PNG, Lane
from tests.service.published import PRIVATE, encode_id, original_key, private_token

Code = grpc.StatusCode
_PURGE = "{media_delete_queue}:job:purge"
_BODY = b"a private picture"
_OUTAGES = {0, 503}


def _new_id(code: int = PNG) -> str:
    return encode_id(datetime.now(UTC), code, secrets.randbits(72))


def _new_host() -> str:
    return f"{secrets.token_hex(6)}.crash.example"


def _enter(lane: Lane, media_id: str) -> Entry:
    """Add work to the ledger. It has no state of a media item."""
    entry = lane.checker.ledger[media_id] = Entry(media_id, Expected(""))
    return entry


def put_blocked_host(lane: Lane) -> str:
    """Add a copy of a file of a new host. A client repeats BlockHost with a purge until it is acknowledged."""
    host = _new_host()
    media_id = hashlib.sha256(f"https://{host}/a.png".encode()).hexdigest()
    metadata = {"host": host, "kind": "attachment"}
    for role, key in keys_of(media_id).items():
        lane.put(key, role.encode(), metadata)
    lane.put(f"host/{host}/{media_id}.29.attachment", b"")
    lane.put(f"size/{len('original')}/{media_id}", b"")
    entry = _enter(lane, media_id)
    entry.end = partial(_is_blocked, lane, entry, host)
    request = wire.BlockHostRequest(host=host, note="crash", purge=True).SerializeToString()
    lane.ask(lambda: lane.repeat("BlockHost", media_id, request))
    return media_id


def _is_blocked(lane: Lane, entry: Entry, host: str) -> list[str] | None:
    if not entry.acknowledged:
        return None
    request = wire.CacheRemoteMediaRequest(remote_url=f"https://sub.{host}:8443/b.png").SerializeToString()
    code, _ = lane.call("CacheRemoteMedia", request)
    if code is Code.OK:
        lane.checker.seen.append(f"{host}: its block is acknowledged, but its files are fetched")
    left = [key for key, _ in lane.checker.listed("") if entry.media_id in key]
    if code is not Code.PERMISSION_DENIED or left or lane.client.hget(_PURGE, "state") != "done":
        return None
    record = lane.checker.read(f"{HOST_BLOCKS}{host}")
    return [] if record is not None and json.loads(record)["note"] == "crash" else ["there is no record of the block"]


def put_unblocked_host(lane: Lane) -> str:
    """Add the record of a blocked host. A client repeats UnblockHost until it is acknowledged."""
    host, media_id = _new_host(), _new_id()
    lane.put(f"{HOST_BLOCKS}{host}", json.dumps({"v": 1, "host": host}).encode())
    entry = _enter(lane, media_id)
    entry.end = partial(_is_unblocked, lane, entry, host)
    request = wire.UnblockHostRequest(host=host).SerializeToString()
    lane.ask(lambda: lane.repeat("UnblockHost", media_id, request, Code.FAILED_PRECONDITION))
    return media_id


def _is_unblocked(lane: Lane, entry: Entry, host: str) -> list[str] | None:
    request = wire.ListBlockedHostsRequest(page_size=1, page_token=host).SerializeToString()
    code, response = lane.call("ListBlockedHosts", request)
    if not entry.acknowledged or code is not Code.OK:
        return None
    if lane.checker.read(f"{HOST_BLOCKS}{host}") is not None:
        return ["its record is left"]
    listed = [each.host for each in wire.ListBlockedHostsResponse.FromString(response).hosts]
    return ["it is listed"] if host in listed else []


def put_revocation(lane: Lane) -> str:
    """Add a private media item with a token. A client repeats RevokeMediaUrls until it is acknowledged."""
    if lane.checker.read(TOKEN_KEYS) is None:
        lane.put(TOKEN_KEYS, json.dumps({"keys": [{"number": 1, "added_at": 0, "secret": "ab" * 32}]}).encode())
    media_id = _new_id(PNG | PRIVATE)
    lane.put(original_key(media_id), _BODY)
    entry = _enter(lane, media_id)
    entry.end = partial(_is_revoked, lane, entry, _token(lane, media_id))
    request = wire.RevokeMediaUrlsRequest(media_ids=[media_id]).SerializeToString()
    lane.ask(lambda: lane.repeat("RevokeMediaUrls", media_id, request))
    return media_id


def _token(lane: Lane, media_id: str, generation: int = 0) -> str:
    stored = lane.checker.read(TOKEN_KEYS)
    assert stored is not None
    return private_token(stored, media_id, expires_in_s=600, generation=generation)


def _is_revoked(lane: Lane, entry: Entry, token: str) -> list[str] | None:
    acknowledged = entry.acknowledged
    statuses = lane.checker.statuses(f"/media/{entry.media_id}/{token}")
    if acknowledged and statuses == {200}:
        lane.checker.seen.append(f"{entry.media_id}: its tokens are revoked, but one of them opens it")
    record = lane.checker.read(f"{REVOCATIONS}{entry.media_id}")
    if not acknowledged or statuses != {403} or record is None:
        return None
    later = _token(lane, entry.media_id, json.loads(record)["generation"])
    statuses = lane.checker.statuses(f"/media/{entry.media_id}/{later}")
    if statuses <= _OUTAGES:  # the process has died in between
        return None
    return [] if statuses == {200} else [f"a later token: {statuses}"]


def put_first_token(lane: Lane) -> str:
    """Add a private media item where nothing has signed a token yet. A client repeats SignMediaUrls."""
    lane.checker.s3.delete_object(Bucket=lane.checker.bucket, Key=TOKEN_KEYS)
    media_id = _new_id(PNG | PRIVATE)
    lane.put(original_key(media_id), _BODY)
    entry = _enter(lane, media_id)
    request = wire.SignMediaUrlsRequest(media_ids=[media_id]).SerializeToString()

    def sign() -> None:
        response = lane.repeat("SignMediaUrls", media_id, request)
        if response is not None:
            token = wire.SignMediaUrlsResponse.FromString(response).tokens[media_id]
            entry.end = lambda: [] if lane.checker.statuses(f"/media/{media_id}/{token}") == {200} else None

    entry.end = lambda: None
    lane.ask(sign)
    return media_id


def put_event(lane: Lane) -> str:
    """Publish an event that an endpoint of webhooks wants."""
    lane.forget_servers("media_webhook_queue")
    free_reader(lane)
    with suppress(redis.ResponseError):  # an earlier process has joined
        lane.client.xgroup_create("media_events", "media_webhooks", "$", mkstream=True)
    media_id, event_id = _new_id(), str(uuid.uuid4())
    event = {"seq": 1, "event_id": event_id, "type": HOOKED, "media_id": media_id}
    _enter(lane, media_id).end = lambda: [] if event_id in lane.endpoint.accepted else None
    lane.client.xadd("media_events", {"event": json.dumps(event)})
    return media_id


def free_reader(lane: Lane) -> None:
    """Let another process read the events now, as if the lock of the dead one had expired."""
    lane.client.delete("{media_events}:webhooks:0")


CDN = (("CDN__PURGE_URLS", "{server}"), ("CDN__PURGE_METHOD", "POST"))
"""Settings for which the lane's server is the CDN."""


def put_purge(lane: Lane) -> str:
    """Add the task to purge a media item from the CDN."""
    media_id = _new_id()
    paths = {f"/media/{media_id}", f"/media/{media_id}/credentials"}
    paths |= {f"/thumbnail/{size}/{media_id}" for size in SIZES}
    _enter(lane, media_id).end = lambda: [] if paths <= lane.remote.asked.keys() else None
    lane.client.xadd("media_purge_queue", {"task_id": secrets.token_hex(8), "media_id": media_id})
    return media_id
