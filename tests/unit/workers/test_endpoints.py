"""The file of endpoints, and what is signed for them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from avion_media.common.clock import now_s
from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.items.state.events import EVENT_TYPES
from avion_media.workers.endpoints import Endpoint, parse_endpoints
from tests.remote_ids import remote_id_for

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "media_event.schema.json").read_text())
GOOD: dict[str, Any] = {
    "name": "posts",
    "url": "https://posts.example/hook",
    "secrets": ["whsec_" + base64.b64encode(b"k" * 24).decode()],
    "events": ["media.ready"],
}


def parse(*entries: dict[str, Any]) -> dict[str, Endpoint]:
    return parse_endpoints(json.dumps(entries))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "a b"}, "0.name: String should match"),
        ({"url": "http://posts.example/hunter2"}, "0.insecure: http is allowed only with"),
        ({"url": "https://me:hunter2@posts.example/"}, "0.url: no URL of an endpoint: the host is malformed"),
        ({"url": "ftp://hunter2"}, "0.url: no URL"),
        ({"secrets": []}, "0.secrets: Tuple should have at least 1 item"),
        ({"secrets": ["hunter2"]}, "0.secrets.0: expected whsec_ and the base64 of 24 to 64 random bytes"),
        ({"secrets": ["whsec_hunter2"]}, "0.secrets.0: expected whsec_"),
        ({"secrets": ["whsec_" + base64.b64encode(b"k" * 23).decode()]}, "0.secrets.0: expected whsec_"),
        ({"secrets": ["whsec_" + base64.b64encode(b"k" * 65).decode()]}, "0.secrets.0: expected whsec_"),
        ({"events": ["media.gone"]}, "0.events.0: no such event (there are: media.ready,"),
        ({"hunter2": True}, "0.hunter2: Extra inputs are not permitted"),
    ],
)
def test_an_entry_with_an_error_is_refused_without_its_value(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match="0") as caught:
        parse(GOOD | change)
    assert str(caught.value).startswith(problem)
    assert "hunter2" not in str(caught.value).removeprefix("0.hunter2")


def test_two_endpoints_have_two_names() -> None:
    with pytest.raises(ValueError, match="two endpoints have the same name"):
        parse(GOOD, GOOD)
    assert list(parse(GOOD, GOOD | {"name": "search"})) == ["posts", "search"]


def test_types_of_events_are_those_of_the_schema() -> None:
    assert sorted(EVENT_TYPES) == sorted(SCHEMA["properties"]["type"]["enum"])


def test_each_secret_signs_and_a_changed_entry_is_another_one() -> None:
    secrets = ["whsec_" + base64.b64encode(bytes([number]) * 64).decode() for number in range(2)]
    endpoint = parse(GOOD | {"secrets": secrets})["posts"]
    body = '{"type":"media.ready","data":{"owner":"ü"}}'.encode()
    headers = {name.lower(): value for name, value in endpoint.sign("an-id", int(now_s()), body)}
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(secret).verify(body, headers)["type"] == "media.ready"
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(body + b" ", headers)
    fingerprints = {
        parse(GOOD | change)["posts"].fingerprint
        for change in ({}, {"secrets": secrets}, {"url": "https://posts.example/other"}, {"private": True})
    }
    assert len(fingerprints) == 4
    assert secrets[0] not in repr(endpoint)


def test_private_events_need_the_permission() -> None:
    public, private = parse(GOOD)["posts"], parse(GOOD | {"private": True})["posts"]
    event = {"type": "media.ready", "media_id": str(new_media_id(JPEG, 0, private=True))}
    assert not public.wants(event)
    assert private.wants(event)
    for any_id in (new_media_id(JPEG, 0), remote_id_for("https://a.example/")):
        assert public.wants(event | {"media_id": str(any_id)})
    assert not private.wants(event | {"type": "media.failed"})
