"""What the contract promises of deletions, private media, hosts, kinds, webhooks and purges, by grpcio and by grpc-go.

Each caller has the rights of docs/authentication.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from PIL import Image
from standardwebhooks.webhooks import Webhook

from avion_media.common.wire.avion import media_pb2 as wire
from mediascrub import Format
from mediascrub.tests.signed import sign as sign_credentials
from tests.conftest import S3Bucket
from tests.interop.media_callers import MAKES, CallRefused, MediaCaller, media_caller
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import EVENT_SCHEMA, decode_id, encode_id, events_of, keys_of
from tests.service.remote_server import remote_server
from tests.service.test_contract_remote import remote_id
from tests.service.webhook_receiver import SECRET, Receiver, endpoint, receiver

Status = wire.MediaStatus
JPEG, PRIVATE_JPEG = 1, 0x80 | 1
ROOT = Path(__file__).parents[2]
PUBLIC_URL = "https://media.example.org"
HIDDEN = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_, _BLOCK, _REST = re.split(r"```toml\n(.*?)```", (ROOT / "docs/authentication.md").read_text(), maxsplit=1, flags=re.S)
RIGHTS = {name: each["methods"] for name, each in tomllib.loads(_BLOCK)["callers"].items()}
NEW_METHODS = {
    "DeleteMedia": ["post"],
    "UndeleteMedia": ["post"],
    "SignMediaUrls": ["gateway", "activitypub"],
    "RevokeMediaUrls": ["gateway", "activitypub"],
    "BlockHost": ["moderation"],
    "UnblockHost": ["moderation"],
    "ListBlockedHosts": ["moderation"],
}


@dataclass
class World:
    """The service, the servers around it, and the tokens of callers."""

    service: Service
    webhooks: Receiver
    private_webhooks: Receiver
    cdn: Receiver
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def world(
    redis_of_process: str, redis_client: Any, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("acceptance")
    tokens = {name: secrets.token_hex(16) for name in RIGHTS}
    hashes = {name: hashlib.sha256(token.encode()).hexdigest() for name, token in tokens.items()}
    callers = folder / "callers.toml"
    callers.write_text(
        "".join(f"[callers.{name}]\nmethods = {RIGHTS[name]}\ntokens_sha256 = ['{hashes[name]}']\n" for name in RIGHTS)
    )
    with ExitStack() as stack:
        webhooks, private_webhooks, cdn = (stack.enter_context(receiver()) for _ in range(3))
        events = [*EVENT_SCHEMA["properties"]["type"]["enum"]]
        endpoints = folder / "endpoints.json"
        endpoints.write_text(
            json.dumps(
                [
                    endpoint("public", webhooks.url, events=events),
                    endpoint("private", private_webhooks.url, events=events, private=True),
                ]
            )
        )
        environment = service_environment(
            redis_of_process,
            bucket.address.endpoint_url,
            bucket.bucket,
            GRPC__AUTH="token",
            GRPC__CALLERS_FILE=str(callers),
            DELETE__DELAY="1h",
            PRIVATE__TTL="2h",
            PRIVATE__MAX_TTL="1d",
            REMOTE__ALLOW_NETWORKS="127.0.0.0/8",
            REMOTE__DENY_HOSTS="worse.example",
            REMOTE__KINDS="avatar:2KiB:30d,header:1MiB:1d,emoji:3B:90d",
            REDIS__TIMEOUT="1s",
            WEBHOOKS__ENDPOINTS_FILE=str(endpoints),
            CDN__PURGE="template",
            CDN__PURGE_METHOD="POST",
            CDN__PURGE_URLS=cdn.url,
            CDN__PURGE_BODY='{"list": {urls}}',
            CDN__PURGE_BATCH="50",
            CDN__PUBLIC_URLS=PUBLIC_URL,
        )
        service = stack.enter_context(running(environment))
        eventually(lambda: redis_client.exists("media_events"), "the reader of webhooks")
        yield World(service, webhooks, private_webhooks, cdn, tokens)


class Client:
    """Makes calls as one of the callers of the page about authentication, and uploads files."""

    def __init__(self, world: World, make: str, caller: MediaCaller) -> None:
        self.world = world
        self.make = make
        self._caller = caller

    def call(self, who: str, method: str, request: Message) -> Any:
        """Return the response. Raises `CallRefused`."""
        return self._caller.call(method, request, self.world.tokens.get(who, ""))

    def refused(self, who: str, method: str, request: Message) -> CallRefused:
        """Return how a call is refused."""
        with pytest.raises(CallRefused) as caught:
            self.call(who, method, request)
        return caught.value

    def fields(self, who: str, method: str, request: Message) -> dict[str, str]:
        """Return which fields of a call are refused, with the reasons."""
        refused = self.refused(who, method, request)
        assert refused.code == "INVALID_ARGUMENT"
        return refused.fields

    def status(self, media_id: str) -> wire.MediaStatus:
        status: wire.MediaStatus = self.call("gateway", "GetMediaStatus", wire.GetMediaStatusRequest(media_id=media_id))
        return status

    def ended(self, media_id: str) -> wire.MediaStatus:
        """Return the final status."""
        finals = (Status.READY, Status.FAILED, Status.DELETED)
        eventually(lambda: self.status(media_id).state in finals, "a final state")
        return self.status(media_id)

    def upload(self, body: bytes = b"", name: str = "a.png", kind: str = "image/png", **fields: Any) -> Any:
        """Upload a file, by default a picture that no other is like, and return its status once it is public."""
        body = body or picture()
        request = wire.RequestMediaUploadRequest(filename=name, content_type=kind, size=len(body), **fields)
        granted = self.call("gateway", "RequestMediaUpload", request)
        assert granted.visibility == (fields.get("visibility") or wire.MEDIA_VISIBILITY_PUBLIC)
        assert self.world.service.put(granted, body).status_code == 200
        self.call("gateway", "CompleteMediaUpload", wire.CompleteMediaUploadRequest(media_id=granted.media_id))
        status = self.ended(granted.media_id)
        assert status.state == Status.READY
        return status

    def delete(self, *media_ids: str, **fields: Any) -> list[str]:
        return list(self.call("post", "DeleteMedia", wire.DeleteMediaRequest(media_ids=media_ids, **fields)).not_owned)

    def undelete(self, *media_ids: str) -> dict[str, list[str]]:
        found = self.call("post", "UndeleteMedia", wire.UndeleteMediaRequest(media_ids=media_ids))
        return {field.name: list(value) for field, value in found.ListFields()}

    def sign(self, *media_ids: str, **fields: Any) -> dict[str, str]:
        return dict(
            self.call("gateway", "SignMediaUrls", wire.SignMediaUrlsRequest(media_ids=media_ids, **fields)).tokens
        )

    def cache(self, url: str, kind: int = wire.REMOTE_MEDIA_KIND_UNSPECIFIED) -> wire.MediaStatus:
        """Have a remote file fetched, and return its final status."""
        request = wire.CacheRemoteMediaRequest(remote_url=url, kind=kind)  # type: ignore[arg-type]
        return self.ended(self.call("activitypub", "CacheRemoteMedia", request).media_id)

    def usage(self, **of: str) -> tuple[int, int]:
        found = self.call("post", "GetUsage", wire.GetUsageRequest(**of))
        return found.count, found.bytes

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.world.service.get(path, **headers)


@pytest.fixture(scope="module", params=MAKES)
def client(world: World, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with media_caller(request.param, world.service.grpc_address, tmp_path_factory.mktemp("client")) as caller:
        yield Client(world, request.param, caller)


def picture() -> bytes:
    noise = io.BytesIO()
    Image.frombytes("RGB", (64, 64), secrets.token_bytes(3 * 64 * 64)).save(noise, "PNG")
    return noise.getvalue()


def new_id(code: int = JPEG) -> str:
    """Return the id of an upload that is not there."""
    return encode_id(datetime.now(UTC), code, secrets.randbits(72))


def held_bytes(bucket: S3Bucket, media_id: str) -> int:
    """Return the bytes of all objects of a media item."""
    return sum(
        bucket.client.head_object(Bucket=bucket.bucket, Key=key)["ContentLength"] for key in keys_of(bucket, media_id)
    )


def test_1_rights(client: Client) -> None:
    """A caller without the right is refused whatever the ids, one with it is not."""
    requests = wire.DESCRIPTOR.services_by_name["MediaService"].methods_by_name
    for method, allowed in NEW_METHODS.items():
        assert {name for name in RIGHTS if method in RIGHTS[name]} == {*allowed}
        empty = getattr(wire, requests[method].input_type.name)()
        full = type(empty)()
        for field in ("media_ids", "host"):
            if field == "host" and hasattr(full, field):
                full.host = "example.org"
            elif hasattr(full, field):
                getattr(full, field).append(new_id(PRIVATE_JPEG))
        for name in RIGHTS:
            if method not in RIGHTS[name] and "*" not in RIGHTS[name]:
                assert client.refused(name, method, empty).code == "PERMISSION_DENIED", (name, method)
                assert client.refused(name, method, full).code == "PERMISSION_DENIED", (name, method)
            elif method != "ListBlockedHosts":
                assert client.refused(name, method, empty).code == "INVALID_ARGUMENT", (name, method)
        assert client.refused("nobody", method, full).code == "UNAUTHENTICATED"
    assert client.call("moderation", "ListBlockedHosts", wire.ListBlockedHostsRequest()).hosts


def test_1_messages(client: Client, bucket: S3Bucket, data_directory: Path) -> None:
    owner = f"owner-{client.make}"
    public = client.upload(owner=owner)
    path = f"/media/{public.media_id}"
    assert (public.path, public.owner, public.visibility) == (path, owner, wire.MEDIA_VISIBILITY_PUBLIC)
    assert (public.has_credentials, public.credentials_path, public.waveform) == (False, "", b"")
    assert public.thumbnails["small"] == f"/thumbnail/small/{public.media_id}"
    signed, manifest = sign_credentials((data_directory / "jpeg-portrait-orientation-6.jpg").read_bytes(), Format.JPEG)
    kept = client.upload(signed, "a.jpg", "image/jpeg", owner=owner, credentials=wire.CONTENT_CREDENTIALS_KEEP)
    assert (kept.has_credentials, kept.credentials_path) == (True, f"/media/{kept.media_id}/credentials")
    assert client.get(kept.credentials_path).content == manifest
    dropped = client.upload(signed + bytes(7), "a.jpg", "image/jpeg")
    assert (dropped.has_credentials, dropped.credentials_path) == (True, "")
    sound = client.upload((data_directory / "ogg-vorbis-comments.ogg").read_bytes(), "a.ogg", "audio/ogg")
    assert len(sound.waveform) == 100
    private = client.upload(owner=owner, visibility=wire.MEDIA_VISIBILITY_PRIVATE)

    owned = [public, kept, private]
    assert client.usage(owner=owner) == (3, sum(held_bytes(bucket, each.media_id) for each in owned))
    listed: list[wire.OwnedMedia] = []
    token = ""
    while len(listed) < 4:
        page = client.call(
            "post", "ListOwnerMedia", wire.ListOwnerMediaRequest(owner=owner, page_size=1, page_token=token)
        )
        listed += page.media
        token = page.next_page_token
        if not token:
            break
    assert [(each.media_id, each.visibility) for each in listed] == [(each.media_id, each.visibility) for each in owned]

    requests: list[tuple[str, Any]] = [
        ("GetUsage", wire.GetUsageRequest),
        ("ListOwnerMedia", wire.ListOwnerMediaRequest),
    ]
    for method, request in requests:
        assert client.fields("post", method, request(owner=owner, host="a.example")) == {"host": "HOST_WITH_OWNER"}
        assert client.fields("post", method, request()) == {"owner": "OWNER_REQUIRED"}
        assert client.fields("post", method, request(host="localhost")) == {"host": "HOST_INVALID"}
    for field in ("visibility", "credentials"):
        wanted: dict[str, Any] = {"filename": "a.png", "content_type": "image/png", "size": 7, field: 3}
        unknown = wire.RequestMediaUploadRequest(**wanted)
        reason = {field: f"{field.upper()}_UNKNOWN"}
        assert client.fields("gateway", "RequestMediaUpload", unknown) == reason

    found = client.call("gateway", "GetCapabilities", wire.GetCapabilitiesRequest())
    assert found.private_media
    assert (found.max_audio_bytes, found.max_audio_duration.seconds) == (64 << 20, 2 * 3600)
    assert found.max_aspect > 1
    assert found.max_frames > 1
    reasons = {each.code: each for each in found.reasons}
    assert reasons["corrupt"].sentence.endswith(".")
    assert {each.retryable for each in found.reasons} == {True, False}


def test_1_deletions(client: Client, redis_client: Any, bucket: S3Bucket) -> None:
    mine, other = client.upload(owner="ada").media_id, client.upload(owner="bob").media_id
    private = client.upload(owner="ada", visibility=wire.MEDIA_VISIBILITY_PRIVATE).media_id
    unknown, remote = new_id(), secrets.token_hex(32)
    blocked = client.upload(owner="ada").media_id
    client.call("moderation", "BlockMedia", wire.BlockMediaRequest(media_id=blocked))

    refusals: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"media_ids": [mine, "x"]}, {"media_ids[1]": "MEDIA_ID_MALFORMED"}),
        ({"media_ids": []}, {"media_ids": "MEDIA_IDS_REQUIRED"}),
        ({"media_ids": [mine, *(new_id() for _ in range(1000))]}, {"media_ids": "MEDIA_IDS_TOO_MANY"}),
        ({"media_ids": [mine], "delay": Duration(seconds=3601)}, {"delay": "DELAY_OUT_OF_RANGE"}),
        ({"media_ids": [mine], "delay": Duration(seconds=-1)}, {"delay": "DELAY_OUT_OF_RANGE"}),
        ({"media_ids": [mine], "owner": "a b"}, {"owner": "OWNER_INVALID"}),
    ]
    for wrong, reason in refusals:
        assert client.fields("post", "DeleteMedia", wire.DeleteMediaRequest(**wrong)) == reason
    for ids, reason in ((each["media_ids"], reason) for each, reason in refusals[:3]):
        assert client.fields("post", "UndeleteMedia", wire.UndeleteMediaRequest(media_ids=ids)) == reason
    assert client.status(mine).state == Status.READY

    assert client.delete(mine, other, unknown, remote, owner="ada") == [other, unknown, remote]
    assert (client.status(mine).state, client.status(other).state) == (Status.DELETED, Status.READY)
    assert client.get(f"/media/{mine}").status_code == 410
    many = [private, unknown, remote, blocked, *(new_id() for _ in range(996))]
    assert client.delete(*many) == []
    assert client.undelete(private, blocked, other) == {
        "restored": [private],
        "blocked": [blocked],
        "not_deleted": [other],
    }
    assert client.undelete(mine) == {"restored": [mine]}
    assert client.get(f"/media/{mine}").status_code == 200
    assert client.delete(mine) == []
    redis_client.flushall()
    assert client.get(f"/media/{mine}").status_code in (410, 503)
    eventually(lambda: client.get(f"/media/{mine}").status_code == 410, "the journal is replayed")

    redis_client.client_pause(3000)
    assert client.refused("post", "DeleteMedia", wire.DeleteMediaRequest(media_ids=[other])).code == "UNAVAILABLE"
    eventually(partial(succeeds, lambda: client.delete(other)), "the repeated call")
    assert client.status(other).state == Status.DELETED
    assert client.delete(mine, delay=Duration()) == []  # the earlier due time
    eventually(lambda: not keys_of(bucket, mine), "its objects are removed")
    eventually(lambda: "media.deleted" in [each["type"] for each in events_of(redis_client, mine)], "the event")
    assert client.undelete(mine) == {"gone": [mine]}


def succeeds(call: Callable[[], object]) -> bool:
    """Return whether a call is accepted now."""
    try:
        call()
    except CallRefused:
        return False
    return True


def test_2_private_media(client: Client, redis_client: Any, bucket: S3Bucket) -> None:
    body = picture()
    medium = client.upload(body, owner="ada", visibility=wire.MEDIA_VISIBILITY_PRIVATE)
    media_id = medium.media_id
    assert decode_id(media_id).format_code & 0x80
    assert medium.path == f"/media/{media_id}/{{token}}"
    assert medium.thumbnails["small"] == f"/thumbnail/small/{media_id}/{{token}}"
    media_ids = [media_id, *(new_id(PRIVATE_JPEG) for _ in range(999))]
    tokens = client.sign(*media_ids)
    assert tokens.keys() == {*media_ids}  # existence is not looked up
    assert {len(each) for each in tokens.values()} == {48}
    token = tokens[media_id]
    for path in (medium.path, medium.thumbnails["small"]):
        found = client.get(path.replace("{token}", token))
        assert (found.status_code, found.headers["Cache-Control"]) == (200, "private, max-age=60")
        refused(client.get(path.replace("{token}", tokens[media_ids[1]])), 404, found.content)
        without = client.get(path.replace("/{token}", ""))
        assert (without.status_code, without.headers["Cache-Control"]) == (404, "no-store")

    refusals: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"media_ids": []}, {"media_ids": "MEDIA_IDS_REQUIRED"}),
        ({"media_ids": [*media_ids, media_id]}, {"media_ids": "MEDIA_IDS_TOO_MANY"}),
        ({"media_ids": [media_id, "x"]}, {"media_ids[1]": "MEDIA_ID_MALFORMED"}),
        ({"media_ids": [new_id()]}, {"media_ids[0]": "MEDIA_ID_NOT_PRIVATE"}),
        ({"media_ids": [secrets.token_hex(32)]}, {"media_ids[0]": "MEDIA_ID_NOT_PRIVATE"}),
        ({"media_ids": [media_id], "audience": "a b"}, {"audience": "AUDIENCE_INVALID"}),
        ({"media_ids": [media_id], "audience": "a" * 256}, {"audience": "AUDIENCE_INVALID"}),
    ]
    for wrong_fields, reason in refusals:
        assert client.fields("gateway", "SignMediaUrls", wire.SignMediaUrlsRequest(**wrong_fields)) == reason
        assert client.fields("gateway", "RevokeMediaUrls", wire.RevokeMediaUrlsRequest(**wrong_fields)) == reason
    for ttl in (Duration(nanos=999_999_999), Duration(seconds=86_401), Duration(seconds=-1)):
        too_much = wire.SignMediaUrlsRequest(media_ids=[media_id], ttl=ttl)
        assert client.fields("gateway", "SignMediaUrls", too_much) == {"ttl": "TTL_OUT_OF_RANGE"}
    short = client.sign(media_id, ttl=Duration(seconds=1), audience="A.b:_-9")[media_id]

    mine, theirs = (client.sign(media_id, audience=each)[media_id] for each in ("ada", "Ada"))
    revoked = wire.RevokeMediaUrlsRequest(media_ids=[media_id], audience="ada")
    client.call("activitypub", "RevokeMediaUrls", revoked)
    path = f"/media/{media_id}"
    refused(client.get(f"{path}/{mine}"), 403, body)
    assert [client.get(f"{path}/{each}").status_code for each in (theirs, token)] == [200, 200]
    redis_client.flushall()
    assert client.get(f"{path}/{mine}").status_code in (403, 503)
    eventually(lambda: client.get(f"{path}/{mine}").status_code == 403, "the revocations are restored")
    eventually(lambda: client.get(f"{path}/{short}").status_code == 403, "it has expired")
    client.delete(media_id)
    refused(client.get(f"{path}/{token}"), 410, body)
    refused(client.get(f"{path}/{short}"), 410, body)
    refused(client.get(f"{path}/{mine}"), 403, body)
    assert client.sign(media_id, media_ids[1]).keys() == {media_ids[1]}


def refused(response: httpx.Response, status: int, body: bytes) -> None:
    """Check that a response is a refusal, which no cache keeps and which has nothing of the file."""
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in HIDDEN} == HIDDEN
    assert body[:16] not in response.content


def test_3_hosts(client: Client, redis_client: Any, bucket: S3Bucket, data_directory: Path) -> None:
    host = f"127.0.0.{5 + MAKES.index(client.make)}"
    files = {f"/{number}.jpg": (data_directory / "jpeg-gray.jpg").read_bytes() for number in range(2)}
    with remote_server(files, host) as server:
        copy = client.cache(f"{server.url}/0.jpg").media_id
        assert client.usage(host=host) == (1, held_bytes(bucket, copy))
        page = client.call("post", "ListOwnerMedia", wire.ListOwnerMediaRequest(host=host))
        assert [each.media_id for each in page.media] == [copy]

        assert block(client, host, note="spam") == 1
        asked = wire.CacheRemoteMediaRequest(remote_url=f"{server.url}/1.jpg")
        refusal = client.refused("activitypub", "CacheRemoteMedia", asked)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "HOST_BLOCKED")
        assert client.get(f"/media/{copy}").status_code == 200  # without purge
        redis_client.xadd("media_cache_queue", {"task_id": client.make, "remote_url": f"{server.url}/1.jpg"})
        reasons = eventually(lambda: events_of(redis_client, remote_id(f"{server.url}/1.jpg")), "the queued task")
        assert [each["reason"] for each in reasons] == ["blocked_host"]
        redis_client.flushall()
        assert client.refused("activitypub", "CacheRemoteMedia", asked).reason == "HOST_BLOCKED"
        assert sum(server.asked.values()) == 1

        assert block(client, host, note="still", purge=True) == 1
        eventually(lambda: not keys_of(bucket, copy), "its copies are removed")
        assert client.usage(host=host) == (0, 0)
        purge = "{media_delete_queue}:job:purge"
        eventually(lambda: redis_client.hget(purge, "state") == "done", "the purge ends")
        unblock = wire.UnblockHostRequest(host=host)
        client.call("moderation", "UnblockHost", unblock)
        assert client.cache(f"{server.url}/1.jpg").state == Status.READY
        refusal = client.refused("moderation", "UnblockHost", unblock)
        assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "HOST_NOT_BLOCKED")

    name = f"{client.make}.example"
    for exact in (False, True):  # the second replaces the first
        block(client, name, exact=exact, note=f"{exact}")
        below = wire.CacheRemoteMediaRequest(remote_url=f"https://a.{name.upper()}.:8443/x")
        if exact:
            assert client.call("activitypub", "CacheRemoteMedia", below).status == "pending"
        else:
            assert client.refused("activitypub", "CacheRemoteMedia", below).reason == "HOST_BLOCKED"
    listed = blocked_hosts(client)
    assert (listed[name].exact, listed[name].note, listed[name].by) == (True, "True", "moderation")
    assert listed[name].HasField("since")
    assert listed["worse.example"].by == "settings"
    settings = client.refused("moderation", "UnblockHost", wire.UnblockHostRequest(host="worse.example"))
    assert (settings.code, settings.reason) == ("FAILED_PRECONDITION", "HOST_NOT_BLOCKED")
    wrong_hosts = {"": "HOST_REQUIRED"} | dict.fromkeys(
        ("localhost", "a.example:443", "a.example/x", "*.a.example", "A.example", "a.example.", "bücher.example"),
        "HOST_INVALID",
    )
    for wrong, reason in wrong_hosts.items():
        assert client.fields("moderation", "BlockHost", wire.BlockHostRequest(host=wrong)) == {"host": reason}
        assert client.fields("moderation", "UnblockHost", wire.UnblockHostRequest(host=wrong)) == {"host": reason}
    too_long = wire.BlockHostRequest(host=name, note="x" * 1001)
    assert client.fields("moderation", "BlockHost", too_long) == {"note": "NOTE_TOO_LONG"}


def block(client: Client, host: str, **fields: Any) -> int:
    """Return how many copies were found."""
    return int(client.call("moderation", "BlockHost", wire.BlockHostRequest(host=host, **fields)).found)


def blocked_hosts(client: Client) -> dict[str, wire.BlockedHost]:
    """Return all blocked hosts, page by page."""
    found: dict[str, wire.BlockedHost] = {}
    token = ""
    while True:
        request = wire.ListBlockedHostsRequest(page_size=1, page_token=token)
        page = client.call("moderation", "ListBlockedHosts", request)
        assert len(page.hosts) <= 1
        found |= {each.host: each for each in page.hosts}
        token = page.next_page_token
        if not token:
            return found


def test_4_kinds(client: Client, bucket: S3Bucket, data_directory: Path) -> None:
    host = f"127.0.0.{15 + MAKES.index(client.make)}"
    avatar, header, emoji = (getattr(wire, f"REMOTE_MEDIA_KIND_{name}") for name in ("AVATAR", "HEADER", "EMOJI"))
    body = (data_directory / "jpeg-gray.jpg").read_bytes()
    assert 3 < len(body) < 1 << 20
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "PNG")
    files = {f"/{number}.jpg": body for number in range(3)} | {"/small.png": small.getvalue()}
    with remote_server(files, host) as server:
        url = f"{server.url}/0.jpg"
        for kind, asked in ((emoji, 1), (emoji, 1), (avatar, 2)):  # the same limit is not tried twice
            status = client.cache(url, kind)
            assert (status.state, status.reason) == (Status.FAILED, "too_large")
            assert server.asked["/0.jpg"] == asked
        ids = {"header": [client.cache(url, header).media_id]}
        ids["attachment"] = [
            client.cache(f"{server.url}/1.jpg", 77).media_id,
            client.cache(f"{server.url}/2.jpg").media_id,
        ]
        ids["avatar"] = [client.cache(f"{server.url}/small.png", avatar).media_id]
        assert client.cache(url, emoji).state == Status.READY
        assert server.asked["/0.jpg"] == 3
    by_kind = {kind: (len(each), sum(held_bytes(bucket, one) for one in each)) for kind, each in ids.items()}
    shown = json.loads(client.world.service.run_cli("hosts", "usage", host, "--json").stdout)
    assert {each["kind"]: (each["count"], each["bytes"]) for each in shown} == by_kind
    counts, sizes = zip(*by_kind.values(), strict=True)
    assert client.usage(host=host) == (sum(counts), sum(sizes))
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"host/{host}/")["Contents"]
    assert sorted(each["Key"].rpartition(".")[2] for each in listed) == sorted(
        kind for kind, each in ids.items() for _ in each
    )
    assert re.search(r'avion_remote_fetches_total\{.*kind="avatar"', client.world.service.metrics())


def test_5_webhooks_and_events(client: Client, redis_client: Any) -> None:
    public = client.upload(owner="ada")
    private = client.upload(owner="ada", visibility=wire.MEDIA_VISIBILITY_PRIVATE)
    (event,) = events_of(redis_client, public.media_id)
    assert (
        event.items()
        >= {
            "owner": "ada",
            "size": public.size,
            "width": 64,
            "height": 64,
            "duration": 0.0,
            "thumbnails": dict(public.thumbnails),
            "path": public.path,
            "visibility": "public",
        }.items()
    )
    (hidden,) = events_of(redis_client, private.media_id)
    assert not hidden.keys() & {"owner", "path", "thumbnails", "blurhash"}
    assert hidden["visibility"] == "private"

    ids = {event["event_id"], hidden["event_id"]}
    eventually(lambda: ids <= {*client.world.private_webhooks.ids}, "both events")
    eventually(lambda: event["event_id"] in client.world.webhooks.ids, "the public one")
    assert hidden["event_id"] not in client.world.webhooks.ids
    for headers, body in client.world.private_webhooks.requests:
        sent = Webhook(SECRET).verify(body, headers)
        assert sent.keys() == {"type", "timestamp", "data"}
        jsonschema.validate(sent["data"], EVENT_SCHEMA)
        if headers["webhook-id"] in ids:
            assert sent["data"] in (event, hidden)
            assert sent["type"] == "media.ready"
    before = len(client.world.webhooks.ids)
    client.world.webhooks.status = 500
    client.delete(public.media_id, delay=Duration())
    eventually(lambda: len(client.world.webhooks.ids) > before, "the first attempt")
    client.world.webhooks.status = 204
    deleted = client.world.webhooks.ids[before]
    eventually(lambda: client.world.webhooks.ids.count(deleted) > 1, "another attempt, with the same id")


def test_6_purges(client: Client) -> None:
    media = [client.upload() for _ in range(2)]
    wanted = {
        PUBLIC_URL + path
        for each in media
        for path in (each.path, f"{each.path}/credentials", *each.thumbnails.values())
    }
    cdn = client.world.cdn
    before = len(cdn.requests)
    cdn.status = 429
    client.delete(*(each.media_id for each in media), delay=Duration())
    eventually(lambda: len(cdn.requests) > before, "a request")
    cdn.status = 400
    eventually(lambda: min(map(len, purged(cdn, before))) == 1, "a request in parts")
    assert max(map(len, purged(cdn, before))) <= 50
    cdn.status = 200
    since = len(cdn.requests)
    eventually(lambda: wanted <= {url for urls in purged(cdn, since) for url in urls}, "all are purged")
    private = client.upload(visibility=wire.MEDIA_VISIBILITY_PRIVATE)
    client.delete(private.media_id, delay=Duration())
    assert not [url for urls in purged(cdn, before) for url in urls if private.media_id in url]


def purged(cdn: Receiver, since: int) -> list[list[str]]:
    """Return the URLs of each request."""
    return [json.loads(body)["list"] for _, body in cdn.requests[since:]]
