"""The configuration: environment variables ``AVION_MEDIA_<SECTION>__<NAME>``, checked once, then frozen.

`load` returns one `Config`, or raises one `ConfigError` that lists every problem: the variable, its value (masked if it
is a secret) and the expected format. The object store's credentials come from boto3's own chain.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from avion_media.common.credentials import TOKEN_FORMAT, is_token
from avion_media.common.formats import FORMATS, Family
from avion_media.common.media import FULL_SIZE, ThumbnailSize, is_size_name
from avion_media.common.redis_url import read_redis_url
from avion_media.net import is_loopback

PREFIX = "AVION_MEDIA_"
_SIZE_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Kubernetes sets these in a pod beside a Service whose name begins with "avion-media" (`enableServiceLinks`).
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?!\w*__)(?:\w*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)\w*)?)", re.ASCII
)
_AFTER_LAST_TASK_S = 2 * 86400.0  # a bucket's lifecycle rules count in whole days, and run once a day
_NUMBER_WITH_UNIT = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


class ConfigError(Exception):
    """All problems of the configuration, one line each, in ``problems``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _with_unit(text: str, units: Mapping[str, float], example: str) -> float:
    match = _NUMBER_WITH_UNIT.fullmatch(text)
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected a number with a unit, such as {example}")
    if match[1].startswith("-"):
        raise ValueError("must not be negative")
    return float(match[1]) * factor


def parse_size(value: object) -> object:
    """Return the bytes of ``16MiB``, ``5MB`` or a plain number."""
    return int(_with_unit(value, _SIZE_UNITS, "16MiB")) if isinstance(value, str) else value


def format_size(number: float) -> str:
    """Format bytes for people, in the units of the settings: ``16.0 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def parse_duration(value: object) -> object:
    """Return the seconds of ``24h``, ``500ms`` or a plain number."""
    return _with_unit(value, _DURATION_UNITS, "15m") if isinstance(value, str) else value


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _parse_sizes(value: object) -> object:
    if not isinstance(value, str):
        return value
    sizes = []
    for part in value.split(","):
        name, _, edge = part.strip().partition(":")
        if not is_size_name(name) or not re.fullmatch(r"[1-9][0-9]{0,4}", edge):
            raise ValueError("expected name:pixels pairs, such as small:400,medium:800")
        sizes.append(ThumbnailSize(name, int(edge)))
    if any(size.name == FULL_SIZE.name for size in sizes):
        raise ValueError(f"{FULL_SIZE.name} is reserved for the rendition of formats that browsers cannot show")
    if len({size.name for size in sizes}) != len(sizes):
        raise ValueError("a size name is given twice")
    return tuple(sizes)


def _parse_bind(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return Bind(host=host.strip("[]"), port=int(port))


def _check_url(value: str) -> str:
    if value and not _is_http(value):
        raise ValueError("expected an http:// or https:// address")
    return value.rstrip("/")


def _is_http(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a URL; the error text may contain a password
        return False


def _check_redis_url(value: str) -> str:
    read_redis_url(value)
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True)


class Bind(_Section):
    """Address and port to listen on. Port 0 chooses a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _check_token(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not is_token(value.get_secret_value()):
        raise ValueError(f"expected {TOKEN_FORMAT}")
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
BindAddress = Annotated[Bind, BeforeValidator(_parse_bind), PlainSerializer(str)]
OptionalBind = Annotated[Bind | None, BeforeValidator(_parse_bind), PlainSerializer(lambda bind: str(bind or ""))]
NameList = Annotated[tuple[str, ...], BeforeValidator(_split)]
Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    BeforeValidator(_split),
    PlainSerializer(lambda networks: [str(each) for each in networks]),
]
Sizes = Annotated[
    tuple[ThumbnailSize, ...],
    BeforeValidator(_parse_sizes),
    PlainSerializer(lambda sizes: ",".join(f"{each.name}:{each.longest_edge}" for each in sizes)),
]
HttpUrl = Annotated[str, BeforeValidator(lambda value: _check_url(value) if isinstance(value, str) else value)]
RedisUrl = Annotated[str, BeforeValidator(lambda value: _check_redis_url(value) if isinstance(value, str) else value)]
OptionalRedisUrl = Annotated[
    str, BeforeValidator(lambda value: _check_redis_url(value) if isinstance(value, str) and value else value)
]


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
    tuple[str, ...], BeforeValidator(_split), PlainSerializer(lambda urls: [_mask_purge_url(url) for url in urls])
]
Token = Annotated[SecretStr, AfterValidator(_check_token), PlainSerializer(lambda token: "***" if token else "")]


class GrpcConfig(_Section):
    """The gRPC port. A certificate enables TLS; a client CA makes the server request client certificates (mTLS)."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=50051), description="Address and port of gRPC")
    tls_cert: str = Field("", description="PEM file with the certificate chain; setting it enables TLS")
    tls_key: str = Field("", description="PEM file with the private key; empty: the key is in the certificate file")
    tls_client_ca: str = Field("", description="PEM file with the CA that client certificates must come from (mTLS)")
    auth: Literal["", "off", "token", "mtls", "any"] = Field(
        "",
        description="How callers authenticate: `token`, `mtls`, `any` (either), or `off`;"
        " required unless the port is bound to loopback",
    )
    callers_file: str = Field("", description="TOML file with the callers and the methods that each may call")
    max_connections: int = Field(1000, ge=1, description="Maximum open connections; further ones are closed")
    max_connections_per_peer: int = Field(
        500, ge=1, description="Maximum open connections of one IPv4 address or IPv6 /64 network"
    )
    max_connection_age: Duration = Field(
        3600.0, gt=0, description="Age (±10 %) at which clients are asked to reconnect"
    )
    max_streams: int = Field(100, ge=1, description="Maximum concurrent calls on one connection")
    max_message: Size = Field(1 << 20, description="Maximum size of one request message")
    max_calls: int = Field(
        1000, ge=1, description="Maximum concurrent calls of this process; streams get three quarters of them"
    )
    max_calls_per_peer: int = Field(
        500, ge=1, description="Maximum concurrent calls of one IPv4 address or IPv6 /64 network"
    )

    @field_validator("auth")
    @classmethod
    def _is_whole(cls, auth: str, info: ValidationInfo) -> str:
        if auth in ("mtls", "any") and not (info.data.get("tls_cert") and info.data.get("tls_client_ca")):
            raise ValueError(f"{auth} needs GRPC__TLS_CERT and GRPC__TLS_CLIENT_CA")
        return auth

    @field_validator("callers_file")
    @classmethod
    def _is_needed(cls, path: str, info: ValidationInfo) -> str:
        auth = info.data.get("auth")  # None if it is invalid itself
        if auth is not None and bool(path) != (auth in ("token", "mtls", "any")):
            raise ValueError("goes with GRPC__AUTH token, mtls or any" if path else f"GRPC__AUTH {auth} needs it")
        return path

    @property
    def authenticates(self) -> bool:
        """Whether callers must authenticate."""
        return self.auth in ("token", "mtls", "any")


class HttpConfig(_Section):
    """The origin."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=8080), description="Address and port of the origin")
    public_url: HttpUrl = Field("", description="Public base URL of the origin, used in command output")
    mode: Literal["proxy", "redirect", "accel"] = Field(
        "proxy",
        description="How bodies are sent: `proxy` sends them itself, `redirect` responds 307 with a presigned URL of"
        " the store, `accel` hands that URL to an nginx in front, which fetches it",
    )
    redirect_ttl: Duration = Field(
        3600.0, ge=2, le=7 * 86400, description="Lifetime of redirect URLs; caches may keep a redirect for half of it"
    )
    max_connections: int = Field(1000, ge=1, description="Maximum open connections; further ones are closed")
    max_connections_per_peer: int = Field(
        500, ge=1, description="Maximum open connections of one IPv4 address or IPv6 /64 network"
    )


class AdminConfig(_Section):
    """The admin port, which must not be public. `/livez`, `/readyz` and `/metrics` are open; everything else needs an
    operator's token."""

    bind: BindAddress = Field(
        Bind(host="127.0.0.1", port=9090),
        description="Address and port of /livez, /readyz, /metrics, /tree and /console; must not be public",
    )
    token: Token = Field(SecretStr(""), description="Bearer token for operators")
    token_file: str = Field("", description="File with operator tokens, one per line; reloaded when it changes")
    auth: Literal["", "off"] = Field(
        "", description="`off`: operators need no token, even where other machines can connect"
    )
    uploads: bool = Field(False, description="Whether the console has an upload box; `dev` switches it on")
    environment: str = Field(
        "", max_length=30, description="Name of this environment in the console's header, such as `production`"
    )
    prometheus_url: HttpUrl = Field(
        "",
        description="URL of a Prometheus that collects the metrics of all replicas: the console then also shows a day"
        " and a week; empty: only the last hour",
    )

    @field_validator("auth")
    @classmethod
    def _is_one(cls, auth: str, info: ValidationInfo) -> str:
        if auth == "off" and (info.data.get("token") or info.data.get("token_file")):
            raise ValueError("contradicts ADMIN__TOKEN")
        return auth

    @property
    def authenticates(self) -> bool:
        """Whether operators must authenticate."""
        return bool(self.token) or bool(self.token_file)


class ClientConfig(_Section):
    """How the commands `upload`, `cache` and `status` reach and authenticate at the running service."""

    address: OptionalBind = Field(None, description="Address of the gRPC port; empty: `GRPC__BIND`")
    token: Token = Field(SecretStr(""), description="Bearer token of a caller")
    token_file: str = Field("", description="File with the bearer token of a caller")
    tls_ca: str = Field("", description="PEM file with the CA of the server's certificate; setting it enables TLS")
    tls_cert: str = Field("", description="PEM file with the client's certificate (mTLS)")
    tls_key: str = Field(
        "", description="PEM file with the client's private key; empty: the key is in the certificate file"
    )


class RedisConfig(_Section):
    """Redis 7+ or Valkey 8+: one server, Sentinels or a cluster (docs/redis.md)."""

    url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        description="One server, nodes of a cluster, or redis+sentinel://host:port,host:port/master; rediss for TLS",
    )
    connections: int = Field(24, ge=4, description="Maximum connections from this process to one server")
    timeout: Duration = Field(5.0, gt=0, description="Timeout of one call")


class StatusConfig(_Section):
    """Statuses, deletion records and remote state."""

    redis_url: OptionalRedisUrl = Field(
        "", description="Redis for statuses, deletion records and remote state; empty: `REDIS__URL`"
    )


class EventsConfig(_Section):
    """Events about media, for other services (docs/events.md)."""

    max_entries: int = Field(
        100_000,
        ge=1000,
        description="Approximate number of entries kept in the stream media_events; the oldest are removed first",
    )


class S3Config(_Section):
    """The object store. Clients PUT to `public_endpoint_url`; if it is empty, to `endpoint_url`."""

    endpoint_url: HttpUrl = Field("", description="URL of the object store for this service; empty: AWS")
    public_endpoint_url: HttpUrl = Field(
        "", description="URL of the object store for clients that upload; empty: `S3__ENDPOINT_URL`"
    )
    signing_profile: str = Field(
        "",
        description="Profile of the AWS files whose credentials sign upload URLs; they need only the right to write."
        " Empty: the service's own credentials",
    )
    upload_acl: Literal["", "private", "bucket-owner-full-control"] = Field(
        "bucket-owner-full-control",
        description="`x-amz-acl` that upload URLs sign, so that no client can open its upload to others:"
        " `bucket-owner-full-control`, `private`, or empty for a store that accepts neither;"
        " `doctor store` finds the value",
    )
    upload_deny_copy: bool = Field(
        True,
        description="Upload URLs sign a condition that no server-side copy meets, so that no client can read other"
        " objects through its URL; `false` only for a store that refuses the header",
    )
    bucket: str = Field("avion-media", min_length=3, max_length=63, description="Name of the bucket")
    region: str = Field("us-east-1", description="Region of the bucket, which is a part of each signature")
    threads: int = Field(16, ge=1, description="Maximum concurrent calls to the store; visitors have as many more")
    timeout: Duration = Field(10.0, gt=0, description="Timeout of one request, excluding retries")


class UploadConfig(_Section):
    """Limits on uploads. Pixels are width × height × frames decoded."""

    max_image_bytes: Size = Field(16 << 20, description="Maximum size of an image")
    max_video_bytes: Size = Field(256 << 20, description="Maximum size of a video")
    max_pixels: int = Field(50_000_000, ge=1, description="Maximum width × height × frames decoded")
    max_frames: int = Field(10_000, ge=1, description="Maximum frames of an animation")
    max_duration: Duration = Field(4 * 3600.0, description="Maximum duration of a video or an animation")
    max_aspect: float = Field(200.0, ge=1, description="Maximum ratio of the longer side to the shorter one")
    url_ttl: Duration = Field(900.0, ge=1, le=7 * 86400, description="Lifetime of an upload URL")
    multipart_ttl: Duration = Field(
        86400.0, ge=60, description="How long an upload in parts can be continued; then its parts are removed"
    )
    max_pending: int = Field(
        250_000,
        ge=0,
        description="Maximum uploads a caller can request without completing them, per replica; 0: unlimited",
    )

    def max_bytes(self, family: Family) -> int:
        """Return the maximum size of an upload of a family."""
        return self.max_image_bytes if family is Family.IMAGE else self.max_video_bytes


class ThumbnailsConfig(_Section):
    """Named sizes: longest edge in pixels."""

    sizes: Sizes = Field(
        (ThumbnailSize("small", 400), ThumbnailSize("medium", 800), ThumbnailSize("large", 1600)),
        description="Names and longest edges in pixels; images are never enlarged",
    )
    quality: int = Field(80, ge=1, le=95, description="Quality of the JPEG thumbnails, 1 to 95")
    webp: Literal["off", "alpha", "all"] = Field(
        "alpha",
        description="Which media get WebP thumbnails beside the JPEGs: `off` (none), `alpha` (images with transparency)"
        " or `all`",
    )


class RemoteConfig(_Section):
    """The cache of other servers' media, with limits for each server and for all together."""

    max_bytes: Size = Field(64 << 20, description="Maximum size of a remote file")
    ttl: Duration = Field(7 * 86400.0, description="How long a cached file is fresh, and is kept after its last use")
    negative_ttl: Duration = Field(3600.0, gt=0, description="How long a permanently failed URL is not fetched again")
    unreachable_ttl: Duration = Field(
        300.0, gt=0, description="How long a URL is not fetched again after its server did not respond"
    )
    budget: Size = Field(
        0,
        description="Maximum bytes of the remote cache; the least recently used items are removed first; 0: unlimited",
    )
    deny_hosts: NameList = Field((), description="Hosts that are never fetched from; a name covers its subdomains")
    allow_hosts: NameList = Field((), description="If set, the only hosts that are fetched from")
    deny_networks: Networks = Field(
        (), description="CIDRs that are never fetched from, besides every address that is not public"
    )
    allow_networks: Networks = Field(
        (), description="CIDRs that the address guard lets through, on any port; for tests"
    )
    user_agent: str = Field(
        "",
        max_length=256,
        pattern=r"^([!-~]([ -~]*[!-~])?)?$",
        description="User-Agent of fetches; empty: `avion-media/VERSION` with `HTTP__PUBLIC_URL` if that is set",
    )
    timeout: Duration = Field(60.0, gt=0, description="Timeout of a whole fetch, including redirects")
    max_redirects: int = Field(3, ge=0, le=10, description="Maximum redirects of one fetch")
    slots: int = Field(
        8, ge=1, description="Maximum concurrent fetches of this process; each can hold `MAX_BYTES` on disk"
    )
    host_slots: int = Field(4, ge=1, description="Maximum concurrent fetches from one host, over all processes")
    breaker_failures: int = Field(
        5, ge=1, description="Consecutive failures of one server before its circuit breaker opens"
    )
    breaker_pause: Duration = Field(
        30.0, gt=0, description="First pause after the breaker opens; doubles with each failed probe"
    )
    breaker_max_pause: Duration = Field(600.0, gt=0, description="Longest pause of a breaker")
    max_deferral: Duration = Field(
        900.0, gt=0, description="Give up on a URL if its server is still paused this long after the URL was queued"
    )


class _Decoders(_Section):
    """A switch for each format, which applies to new uploads, to validation and to processing."""

    def enabled(self) -> frozenset[str]:
        """Names of the formats (`MediaFormat.name`) that are switched on."""
        return frozenset(name for name, on in self.model_dump().items() if on)


if TYPE_CHECKING:
    DecodersConfig = _Decoders
else:
    _SWITCHES = {fmt.name: (bool, fmt.switched_on) for fmt in FORMATS}
    DecodersConfig = create_model("DecodersConfig", __base__=_Decoders, __doc__=_Decoders.__doc__, **_SWITCHES)


class DeleteConfig(_Section):
    """Deletions are visible at once, and final after the delay."""

    delay: Duration = Field(
        86400.0, description="Time between a deletion, which is visible immediately, and the removal of its objects"
    )


class CdnConfig(_Section):
    """The CDN in front of the origin. Deletions purge it."""

    purge_urls: PurgeUrls = Field(
        (),
        description="URLs of the caches to purge: base URLs, or templates with `{path}`; empty: no purges."
        " Treat it as a secret if it contains a token",
    )
    purge_method: str = Field("PURGE", pattern="^[A-Z]+$", description="HTTP method of a purge request")
    timeout: Duration = Field(
        5.0, gt=0, description="Timeout of one purge request; purges are retried until they succeed"
    )

    @field_validator("purge_urls")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            _check_url(url)
        return urls


class TasksConfig(_Section):
    """The queues."""

    max_attempts: int = Field(5, ge=1, description="Failed attempts after which a task becomes a dead letter")
    claim_after: Duration = Field(
        60.0,
        gt=0,
        description="A worker that has not renewed its lease for this long counts as dead, and its task is reassigned",
    )
    backoff: Duration = Field(
        2.0, gt=0, description="Wait before the first retry; doubles with each retry, with jitter"
    )
    max_backoff: Duration = Field(300.0, description="Longest wait before a retry")
    max_age: Duration = Field(
        14 * 86400.0,
        gt=0,
        description="Age at which a task that has not succeeded becomes the dead letter `expired`; never a deletion",
    )
    slots: int = Field(2, ge=1, description="Maximum concurrent processing tasks of this process")

    @property
    def accepted_life_s(self) -> float:
        """Seconds that an accepted upload, and its status PROCESSING, are kept: longer than any task needs them."""
        return self.max_age + _AFTER_LAST_TASK_S


class SweepConfig(_Section):
    """The sweep: `avion-media sweep`, and the `sweeper` role."""

    interval: Duration = Field(3600.0, gt=0, description="Pause between the end of one sweep and the start of the next")
    rate: float = Field(
        10.0, gt=0, description="Maximum requests to the object store per second; one request lists 1000 objects"
    )
    margin: Duration = Field(
        3600.0, description="Objects younger than this are left alone, because work on them may be in progress"
    )
    max_fraction: float = Field(
        0.2, ge=0, le=1, description="Largest share of listed objects that one sweep may delete without `--force`"
    )
    always_allowed: int = Field(100, ge=0, description="Number of objects that a sweep may always delete")


class SandboxConfig(_Section):
    """Limits of one sandboxed decoder process, and of all of them together."""

    memory: Size = Field(1 << 30, gt=0, description="Maximum memory of one sandboxed process")
    budget: Size = Field(2 << 30, gt=0, description="Maximum memory of all sandboxed processes together")
    cpu: Duration = Field(60.0, gt=0, description="Maximum CPU time of one sandboxed process")
    timeout: Duration = Field(90.0, gt=0, description="Maximum wall time of one sandboxed process")
    slots: int = Field(2, ge=1, description="Maximum concurrent sandboxed processes")
    require: bool = Field(
        True, description="Refuse to start if the kernel cannot fully sandbox decoders; `false` accepts the gaps"
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


class ModerationConfig(_Section):
    """Block lists, evidence, and the hook (docs/moderation.md)."""

    evidence_ttl: Duration = Field(
        365 * 86400.0,
        ge=86400,
        description="How long evidence is kept, in whole days: a lifecycle rule of `init` removes it",
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


class DrainConfig(_Section):
    """Times of the phases of a shutdown."""

    settle: Duration = Field(
        5.0, description="Time to keep serving after SIGTERM while load balancers stop sending traffic"
    )
    grace: Duration = Field(25.0, description="Time for running calls and tasks to finish")
    termination_grace_period: Duration = Field(
        60.0, description="The pod's terminationGracePeriodSeconds; all phases together must be shorter"
    )


class ChaosConfig(_Section):
    """Killing parts of the running service on purpose: `avion-media chaos`."""

    enabled: bool = Field(
        False, description="Whether the admin port accepts `POST /chaos/kill?path=…`; never in production"
    )


class LogConfig(_Section):
    """Logs go to standard error."""

    format: Literal["json", "console"] = Field(
        "json", description="`json` or `console`; unset: `console` if standard error is a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`debug`, `info`, `warning` or `error`"
    )


class Config(BaseSettings):
    """All sections. Build it with `load`, or directly from section objects in tests."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )
    SECRETS: ClassVar[frozenset[str]] = frozenset(
        {"redis.url", "status.redis_url", "cdn.purge_urls", "admin.token", "client.token", "moderation.hook_token"}
    )

    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    admin: AdminConfig = AdminConfig()
    client: ClientConfig = ClientConfig()
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
    tasks: TasksConfig = TasksConfig()
    sweep: SweepConfig = SweepConfig()
    sandbox: SandboxConfig = SandboxConfig()
    moderation: ModerationConfig = ModerationConfig()
    drain: DrainConfig = DrainConfig()
    chaos: ChaosConfig = ChaosConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only what `load` passes. It reads the environment itself, so that unknown names are errors."""
        return (init_settings,)


def load(environ: Mapping[str, str] = os.environ, *, on_terminal: bool = False) -> Config:
    """Read and check the environment. Raises `ConfigError` with every problem.

    ``on_terminal``: standard error is a terminal, so logs are text unless another format is set.
    """
    sections: dict[str, dict[str, Any]] = {}
    problems = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        if _SERVICE_LINK.fullmatch(variable):
            continue
        section, separator, name = variable.removeprefix(PREFIX).lower().partition("__")
        if not separator or section not in Config.model_fields:
            problems.append(f"{variable}: no such setting (format: {PREFIX}<SECTION>__<NAME>)")
            continue
        sections.setdefault(section, {})[name] = value
    if on_terminal:
        sections.setdefault("log", {}).setdefault("format", "console")
    try:
        config = Config.model_validate(sections)
    except ValidationError as error:
        problems.extend(_describe(each, sections) for each in error.errors())
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    return config


def ports_without_auth(config: Config, roles: Collection[str]) -> list[str]:
    """Return one line for each port that `serve` would open to other machines without a decision about authentication.

    The gRPC port counts only with the role ``grpc``; the admin port counts with every role.
    """
    problems = []
    grpc, admin = config.grpc, config.admin
    if "grpc" in roles and not (grpc.auth or grpc.bind.is_loopback):
        problems.append(
            f"{PREFIX}GRPC__AUTH='': must be token, mtls or any (or off, explicitly),"
            f" because {grpc.bind} accepts connections from other machines"
        )
    if not (admin.auth or admin.authenticates or admin.bind.is_loopback):
        problems.append(
            f"{PREFIX}ADMIN__AUTH='': {admin.bind} accepts connections from other machines: set ADMIN__TOKEN or"
            " ADMIN__TOKEN_FILE (or off, explicitly)"
        )
    return problems


def _describe(error: Any, sections: Mapping[str, Mapping[str, Any]]) -> str:
    section, *rest = (str(part) for part in error["loc"])
    name = rest[0] if rest else ""
    variable = f"{PREFIX}{section}__{name}".upper()
    if error["type"] == "extra_forbidden":
        return f"{variable}: no such setting"
    value = sections.get(section, {}).get(name, "")
    shown = "***" if f"{section}.{name}" in Config.SECRETS else repr(mask_url(value))
    return f"{variable}={shown}: {error['msg'].removeprefix('Value error, ')}"


def mask_url(url: str) -> str:
    """Return the URL with its passwords replaced by ``***``."""
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return mask_url(value) if isinstance(value, str) else value


def effective(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as plain data, with masked secrets, for `avion-media config`."""
    data = config.model_dump(mode="json")
    return {section: {name: _masked(value) for name, value in values.items()} for section, values in data.items()}
