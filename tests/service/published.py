"""The contract as another team would read it: ids, keys, tasks and events, decoded without the service's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import jsonschema
import redis
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.conftest import S3Bucket

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
EVENT_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "media_event.schema.json").read_text())
_EVENT_VALIDATOR = jsonschema.validators.validator_for(EVENT_SCHEMA)(EVENT_SCHEMA)
GROUP = "media_workers"
QUEUES = ("media_processing_queue", "media_cache_queue", "media_delete_queue")
PRIVATE = 0x80
"""The bit of private media in the code of the format."""
FORMAT_CODES = {
    1: "jpg",
    2: "png",
    3: "gif",
    4: "webp",
    5: "avif",
    6: "heic",
    32: "mp4",
    33: "mov",
    34: "webm",
    35: "mkv",
}


@dataclass(frozen=True)
class DecodedId:
    """The three parts of a media id."""

    created: datetime
    format_code: int
    random: int


def decode_id(text: str) -> DecodedId:
    """26 characters of Crockford base32 of 128 bits: 48 of milliseconds, 8 of format, 72 random."""
    assert len(text) == 26
    value = 0
    for character in text:
        value = value * 32 + CROCKFORD.index(character)
    assert value < 2**128
    created = datetime.fromtimestamp((value >> 80) / 1000, UTC)
    return DecodedId(created, (value >> 72) & 0xFF, value & (2**72 - 1))


def encode_id(created: datetime, format_code: int, random: int) -> str:
    """An id that this service could have given out."""
    value = int(created.timestamp() * 1000) << 80 | format_code << 72 | random
    return "".join(CROCKFORD[(value >> (5 * position)) & 31] for position in reversed(range(26)))


def private_token(
    stored_keys: bytes,
    media_id: str,
    *,
    expires_in_s: float = 60,
    generation: int = 0,
    audience: str = "",
    purpose: str = "token",
) -> str:
    """A token by the newest of the keys in the bucket, as the page about private media describes it."""
    key = json.loads(stored_keys)["keys"][-1]
    tag = hashlib.sha256(f"avion-media audience\n{media_id}\n{audience}".encode()).digest()[:8]
    signed = struct.pack(">BI", key["number"], int(time.time() + expires_in_s)) + generation.to_bytes(3) + tag
    message = f"avion-media {purpose}\n{media_id}\n".encode() + signed
    mac = hmac.new(bytes.fromhex(key["secret"]), message, "sha256").digest()[:20]
    return base64.urlsafe_b64encode(signed + mac).decode()


def original_key(media_id: str) -> str:
    """Where an upload's original is."""
    decoded = decode_id(media_id)
    extension = FORMAT_CODES[decoded.format_code & ~PRIVATE]
    return f"original/{decoded.created:%Y/%m/%d}/{media_id}.{extension}"


def thumbnail_key(media_id: str, size: str) -> str:
    """Where one of an upload's thumbnails is."""
    return f"thumbnail/{size}/{decode_id(media_id).created:%Y/%m/%d}/{media_id}.jpg"


def keys_of(bucket: S3Bucket, media_id: str) -> set[str]:
    """Every key that has to do with a medium."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket)
    return {each["Key"] for page in pages for each in page.get("Contents", ()) if media_id in each["Key"]}


_STATES = {"P": "PROCESSING", "R": "READY", "F": "FAILED", "U": "PENDING_UPLOAD", "D": "DELETED"}


def read_status(written: str | None) -> tuple[str, str]:
    """State and reason of a status as it is on Redis; ``unknown`` when there is none."""
    if not written:
        return "unknown", ""
    code, _, rest = written.partition(" ")
    state = _STATES.get(code, "unknown")
    return state, rest.partition(" ")[0] if state == "FAILED" else ""


def key_of(kind: str, media_id: object) -> str:
    """A key of Redis about one medium: in one slot with those whose ids have the same last two characters."""
    text = str(media_id)
    return f"{kind}:{{{text[-2:]}}}{text}"


def unfinished(client: redis.Redis, queues: Iterable[str] = QUEUES) -> dict[str, int]:
    """What is left of tasks anywhere: entries of streams, pending ones, delayed ones, dead letters. Empty is done."""
    left: dict[str, int] = {}
    for queue in queues:
        pending: Any = client.xpending(queue, GROUP) if client.exists(queue) else {"pending": 0}
        left |= {
            queue: int(str(client.xlen(queue))),
            f"{queue} pending": pending["pending"],
            f"{queue} waiting": max(0, int(str(client.zcard(f"{{{queue}}}:waiting"))) - 1),
            f"{queue} delayed": int(str(client.zcard(f"{{{queue}}}:delayed"))),
            f"{queue} dlq": int(str(client.xlen(f"{{{queue}}}:dlq"))),
        }
    return {name: count for name, count in left.items() if count}


def entries(client: redis.Redis, stream: str) -> list[dict[str, str]]:
    """The fields of all entries of a stream, oldest first."""
    rows: Any = client.xrange(stream)
    return [fields for _, fields in rows]


def events_of(client: redis.Redis, media_id: str) -> list[dict[str, Any]]:
    """What `media_events` says of one medium, oldest first. All of it is as the published schema says."""
    texts = [fields["event"] for fields in entries(client, "media_events")]
    for text in texts:
        _check_event(text)
    return [event for event in map(json.loads, texts) if event["media_id"] == media_id]


@cache
def _check_event(text: str) -> None:
    """Each once: whoever waits for an event reads all of them 20 times a second."""
    _EVENT_VALIDATOR.validate(json.loads(text))


def violations(error: grpc.RpcError) -> dict[str, str]:
    """``field: reason`` of a BadRequest."""
    details = error_details_pb2.BadRequest()
    _unpack(error, details)
    return {each.field: each.reason for each in details.field_violations}


def error_reason(error: grpc.RpcError) -> str:
    """The reason of an ErrorInfo."""
    details = error_details_pb2.ErrorInfo()
    _unpack(error, details)
    return str(details.reason)


def retry_delay_s(error: grpc.RpcError) -> float:
    """The delay of a RetryInfo."""
    details = error_details_pb2.RetryInfo()
    _unpack(error, details)
    return float(details.retry_delay.ToMilliseconds()) / 1000


def _unpack(error: grpc.RpcError, details: Any) -> None:
    """Read the one detail of this type that the status carries."""
    status = rpc_status.from_call(error)
    assert status is not None, "no google.rpc.Status in the trailers"
    assert status.code == error.code().value[0]
    found = [each for each in status.details if each.Is(details.DESCRIPTOR)]
    assert len(found) == 1, status
    found[0].Unpack(details)


def fields_of(member: str | bytes) -> dict[str, str]:
    """Return the fields of a delayed task."""
    flat = json.loads(member)
    return dict(zip(flat[::2], flat[1::2], strict=True))
