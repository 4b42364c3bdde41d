"""The endpoints of webhooks: their file, and what is signed for them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from avion_media.common.ids import is_private
from avion_media.common.settings import Section
from avion_media.items.state.events import EVENT_TYPES
from guarded_fetch import InvalidUrl, RemoteUrl, parse_remote_url

_SECRET_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # of the decoded secret
_MAX_ENDPOINTS = 100
TEST_EVENT = "webhook.test"


def _check_url(text: str) -> str:
    try:
        parse_remote_url(text)
    except InvalidUrl as error:
        raise ValueError(f"no URL of an endpoint: {error}") from None
    return text


def _check_secret(text: str) -> str:
    try:
        is_secret = text.startswith(_SECRET_PREFIX) and len(_key_of(text)) in _KEY_BYTES
    except ValueError:
        is_secret = False
    if not is_secret:
        raise ValueError("expected whsec_ and the base64 of 24 to 64 random bytes")
    return text


def _check_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(f"no such event (there are: {', '.join(EVENT_TYPES)})")
    return text


class Endpoint(Section):
    """One endpoint. ``insecure``: http is allowed; ``internal``: it may have an inner address; ``private``: it gets
    the events of private media, too."""

    name: str = Field(pattern="^[A-Za-z0-9._-]{1,64}$")
    url: Annotated[str, AfterValidator(_check_url)] = Field(repr=False)  # may contain a token
    secrets: tuple[Annotated[str, AfterValidator(_check_secret)], ...] = Field(min_length=1, max_length=4, repr=False)
    events: tuple[Annotated[str, AfterValidator(_check_type)], ...] = Field(min_length=1)
    private: bool = False
    insecure: bool = False
    internal: bool = False

    @field_validator("insecure")
    @classmethod
    def _is_needed(cls, insecure: bool, info: ValidationInfo) -> bool:
        if not insecure and info.data.get("url", "").lower().startswith("http:"):
            raise ValueError("http is allowed only with `insecure`: true")
        return insecure

    @property
    def remote_url(self) -> RemoteUrl:
        """The URL in normal form."""
        return parse_remote_url(self.url)

    @property
    def fingerprint(self) -> str:
        """A digest of the whole entry, which its random secrets keep from being guessed."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def wants(self, event: Mapping[str, object]) -> bool:
        """Return whether it gets this event."""
        return event.get("type") in self.events and self.may_have(event)

    def may_have(self, event: Mapping[str, object]) -> bool:
        """Return whether the event is not of private media, or the endpoint may have those."""
        return self.private or not is_private(str(event.get("media_id", "")))

    def sign(self, message_id: str, sent_at: int, body: bytes) -> list[tuple[str, str]]:
        """Return the headers of one attempt: one signature for each secret."""
        signed = f"{message_id}.{sent_at}.".encode() + body
        digests = (hmac.new(_key_of(each), signed, hashlib.sha256).digest() for each in self.secrets)
        return [
            ("Content-Type", "application/json"),
            ("Webhook-Id", message_id),
            ("Webhook-Timestamp", str(sent_at)),
            ("Webhook-Signature", " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests)),
        ]


_ENDPOINTS = TypeAdapter(Annotated[list[Endpoint], Field(max_length=_MAX_ENDPOINTS)])


def parse_endpoints(text: str) -> dict[str, Endpoint]:
    """Return the endpoints of a file by name. Raises ValueError with each problem, and without its value, which may be
    a secret."""
    try:
        endpoints = _ENDPOINTS.validate_python(json.loads(text))
    except ValidationError as error:
        raise ValueError("; ".join(_problem(each["loc"], each["msg"]) for each in error.errors())) from None
    named = {each.name: each for each in endpoints}
    if len(named) < len(endpoints):
        raise ValueError("two endpoints have the same name")
    return named


def _problem(location: tuple[int | str, ...], message: str) -> str:
    place = ".".join(map(str, location)) or "the file"
    return f"{place}: {message.removeprefix('Value error, ')}"


def _key_of(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
