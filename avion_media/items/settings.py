"""Settings of deletions, purges, events and moderation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, ValidationInfo, field_validator

from avion_media.backends.settings import RedisConfig, RemoteConfig, S3Config, StatusConfig, TasksConfig
from avion_media.common.formats import FORMATS, Family
from avion_media.common.settings import (
    Duration,
    HttpUrl,
    NameList,
    Section,
    Token,
    check_base_url,
    check_http_url,
    split_list,
)
from avion_media.media.settings import DecodersConfig, SandboxConfig, ThumbnailsConfig, UploadConfig


class DeleteConfig(Section):
    """Deletions are visible at once, and final after the delay."""

    delay: Duration = Field(
        86400.0,
        le=3650 * 86400,
        description="Time between a deletion, which is visible immediately, and the removal of its objects",
    )


def _mask_purge_url(url: str) -> str:
    """Mask what may be a credential: user and password, and the values of the query except ``{path}``."""
    # Up to the last @, because an odd password may contain one, or text that looks like a path.
    base, question, query = re.sub(r"://.*@", "://***@", url).partition("?")
    return base + question + "&".join(_mask_field(field) for field in query.split("&"))


def _mask_field(field: str) -> str:
    name, equals, value = field.partition("=")
    if equals:
        return f"{name}={value if value == '{path}' else '***'}"
    return "***" if field else ""


PurgeUrls = Annotated[
    tuple[str, ...], BeforeValidator(split_list), PlainSerializer(lambda urls: [_mask_purge_url(url) for url in urls])
]

PublicUrls = Annotated[
    tuple[str, ...],
    BeforeValidator(split_list),
    AfterValidator(lambda urls: tuple(check_base_url(check_http_url(url)) for url in urls)),
]

Found = TypeVar("Found")
_PRESETS = ("cloudflare", "fastly", "bunny")
_MAX_BATCH = 500  # Cloudflare's largest plan


class CdnConfig(Section):
    """The CDN in front of the origin. Deletions purge it (docs/cdn.md)."""

    purge: Literal["url", "cloudflare", "fastly", "bunny", "template"] = Field(
        "url", description="How the CDN is purged: `url`, `cloudflare`, `fastly`, `bunny` or `template`"
    )
    public_urls: PublicUrls = Field(
        (), description="Base URLs at which visitors see the media; all presets but `url` purge by them"
    )
    origins: NameList = Field(
        (), description="Values of `Origin` that are a part of Cloudflare's cache key; empty: it is not"
    )
    purge_urls: PurgeUrls = Field(
        (),
        description="URLs of the caches to purge: base URLs, or templates with `{path}`; empty: no purges with `url`."
        " `template` has exactly one, also with `{url}`. Treat it as a secret if it contains a token",
    )
    purge_method: str = Field(
        "PURGE", pattern="^[A-Z]+$", description="HTTP method of a purge request of `url` and `template`"
    )
    purge_headers_file: str = Field(
        "", description="File with the headers of `template`, one `Name: value` per line; read for each request"
    )
    purge_body: str = Field(
        "", description="JSON body of `template`, with `{url}`, `{urls}` (a list) and `{path}`; empty: no body"
    )
    purge_batch: int = Field(
        0, ge=0, le=_MAX_BATCH, description="Maximum URLs of one request; 0: 100 for `cloudflare`, otherwise 1"
    )
    cloudflare_zone: str = Field("", pattern="^([0-9a-f]{32})?$", description="Id of the zone at Cloudflare")
    token_file: str = Field(
        "", description="File with the token of `cloudflare`, `fastly` or `bunny`; read for each request"
    )

    @property
    def purges(self) -> bool:
        """Whether there is a CDN to purge."""
        return self.purge != "url" or bool(self.purge_urls)

    @field_validator("purge_urls")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = {"{path}", "{url}"} if info.data.get("purge") == "template" else {"{path}"}
        for url in urls:
            check_http_url(url)
            if unknown := set(re.findall(r"{.*?}", url)) - known:
                raise ValueError(f"{unknown.pop()} is unknown; a template has {' and '.join(sorted(known))}")
        if info.data.get("purge") == "template" and len(urls) != 1:
            raise ValueError("`template` needs exactly one URL")
        return urls

    @field_validator("public_urls", "token_file")
    @classmethod
    def _is_there(cls, found: Found, info: ValidationInfo) -> Found:
        if info.data.get("purge") in _PRESETS and not found:
            needed = "a token" if info.field_name == "token_file" else "at least one URL"
            raise ValueError(f"`{info.data['purge']}` needs {needed}")
        return found

    @field_validator("origins")
    @classmethod
    def _are_of_cloudflare(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if origins and info.data.get("purge") != "cloudflare":
            raise ValueError("only `cloudflare` purges by origin")
        return origins

    @field_validator("purge_body")
    @classmethod
    def _is_json(cls, body: str, info: ValidationInfo) -> str:
        try:
            json.loads(fill_body(body, ["u"], ["p"]) or "{}")
        except ValueError as error:
            raise ValueError(f"not JSON once its placeholders are replaced: {error}") from None
        if info.data.get("purge") == "template" and not info.data.get("public_urls"):
            text = body + "".join(info.data.get("purge_urls", ()))
            if "{url" in text:
                raise ValueError("`{url}` and `{urls}` need CDN__PUBLIC_URLS")
        return body

    @field_validator("purge_batch")
    @classmethod
    def _is_list(cls, batch: int, info: ValidationInfo) -> int:
        purge, body = info.data.get("purge"), info.data.get("purge_body", "")
        if batch > 1 and purge != "cloudflare" and not (purge == "template" and "{urls}" in body):
            raise ValueError("only `cloudflare`, and a `template` whose body has `{urls}`, take several URLs")
        return batch

    @field_validator("cloudflare_zone")
    @classmethod
    def _has_zone(cls, zone: str, info: ValidationInfo) -> str:
        if info.data.get("purge") == "cloudflare" and not zone:
            raise ValueError("`cloudflare` needs the id of a zone, 32 hex digits")
        return zone


def fill_body(body: str, urls: Sequence[str], paths: Sequence[str]) -> str:
    """Return the body of a purge request, with the placeholders replaced as JSON."""
    texts = {
        "{url}": json.dumps(urls[0])[1:-1],
        "{path}": json.dumps(paths[0])[1:-1],
        "{urls}": json.dumps(list(urls)),
    }
    return re.sub(r"{(?:url|path|urls)}", lambda found: texts[found[0]], body)


class PrivateConfig(Section):
    """Private media (docs/private-media.md)."""

    ttl: Duration = Field(3600.0, ge=1, description="Lifetime of a token if its request does not give one")
    max_ttl: Duration = Field(
        7 * 86400.0,
        ge=1,
        le=7 * 86400,
        description="Maximum lifetime of a token; an old key verifies for this long after a rotation",
    )
    cdn_max_age: Duration = Field(
        0.0, le=60, description="How long shared caches may keep private files; 0: not at all"
    )

    @field_validator("max_ttl")
    @classmethod
    def _is_most(cls, max_ttl: float, info: ValidationInfo) -> float:
        if max_ttl < info.data.get("ttl", 0):
            raise ValueError("must not be shorter than PRIVATE__TTL")
        return max_ttl


class EventsConfig(Section):
    """Events about media, for other services (docs/events.md)."""

    max_entries: int = Field(
        100_000,
        ge=1000,
        description="Approximate number of entries kept in the stream media_events; the oldest are removed first",
    )


@dataclass(frozen=True, slots=True)
class LikenessPolicy:
    """What happens to files that resemble an entry, by list."""

    default: str
    by_list: tuple[tuple[str, str], ...] = ()

    def of(self, name: str) -> str:
        """Return ``hold``, ``refuse`` or ``ignore`` for a match of this list."""
        return dict(self.by_list).get(name, self.default)

    def __str__(self) -> str:
        return ",".join([self.default, *(f"{name}:{action}" for name, action in self.by_list)])


def _parse_likeness(value: object) -> object:
    if not isinstance(value, str):
        return value
    default, *others = [part.strip() for part in value.split(",")]
    by_list = tuple((name, action) for name, _, action in (part.rpartition(":") for part in others))
    actions = {default, *(action for _, action in by_list)}
    if actions - {"hold", "refuse", "ignore"} or not all(name for name, _ in by_list):
        raise ValueError("expected hold, refuse or ignore, and name:action pairs, such as hold,own:refuse")
    return LikenessPolicy(default, by_list)


Likeness = Annotated[LikenessPolicy, BeforeValidator(_parse_likeness), PlainSerializer(str)]


class ModerationConfig(Section):
    """Block lists, evidence, and the hook (docs/moderation.md)."""

    evidence_keep: Duration = Field(
        400 * 86400.0,
        ge=86400,
        description="How long evidence is kept after the block or, if later, the recorded report",
    )
    keep_refused: bool = Field(
        True, description="Whether files that a block list or the hook refuses are kept as evidence"
    )
    likeness: Likeness = Field(
        LikenessPolicy("hold"),
        description="What happens to a file whose PDQ hash is near one of a list: `hold`, `refuse` or `ignore`; by"
        " list: `hold,NAME:refuse`, where `own` is the list of own entries",
    )
    reload: Duration = Field(30.0, ge=1, description="Pause between two checks for changed block lists")
    hook_url: HttpUrl = Field(
        "", description="URL of a service that decides about each media item before publication; empty: none"
    )
    hook_token: Token = Field(SecretStr(""), description="Bearer token for the hook")
    hook_timeout: Duration = Field(3.0, gt=0, le=60, description="Timeout of one request to the hook")
    hook_unavailable: Literal["publish", "hold", "refuse"] = Field(
        "hold", description="Decision while the hook does not respond: `hold`, `publish` or `refuse`"
    )
    hook_sends_file: bool = Field(
        False, description="Whether requests to the hook carry a thumbnail, besides hashes and facts"
    )
    hook_private_pictures: bool = Field(False, description="Whether `HOOK_SENDS_FILE` counts for private media as well")


class ItemSettings(Section):
    """The sections of the items, and of the floors below them. Each floor above adds its own to these."""

    redis: RedisConfig = RedisConfig()
    status: StatusConfig = StatusConfig()
    events: EventsConfig = EventsConfig()
    s3: S3Config = S3Config()
    upload: UploadConfig = UploadConfig()
    thumbnails: ThumbnailsConfig = ThumbnailsConfig()
    remote: RemoteConfig = RemoteConfig()
    decoders: DecodersConfig = DecodersConfig()
    delete: DeleteConfig = DeleteConfig()
    cdn: CdnConfig = CdnConfig()
    private: PrivateConfig = PrivateConfig()
    tasks: TasksConfig = TasksConfig()
    sandbox: SandboxConfig = SandboxConfig()
    moderation: ModerationConfig = ModerationConfig()

    def enabled_formats(self) -> frozenset[str]:
        """Return the names of the formats that are accepted."""
        sounds = {fmt.name for fmt in FORMATS if fmt.family is Family.AUDIO}
        return self.decoders.enabled() - (frozenset() if self.upload.audio else sounds)
