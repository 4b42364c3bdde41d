"""The configuration: environment variables ``AVION_MEDIA_<SECTION>__<NAME>``, checked once, frozen afterwards.

`load` gives one `Config` or one `ConfigError` that lists everything wrong: the variable, its value (masked where it
is a secret) and the format that was expected. The object store's credentials come from boto3's own chain.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Mapping
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

from avion_media.credentials import TOKEN_FORMAT, is_token
from avion_media.domain.formats import FORMATS, Family
from avion_media.domain.media import FULL_SIZE, ThumbnailSize, is_size_name
from avion_media.domain.redis_url import read_redis_url
from avion_media.net import is_loopback

PREFIX = "AVION_MEDIA_"
_SIZE_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AFTER_LAST_TASK_S = 2 * 86400.0  # a bucket's lifecycle rules count in whole days, and run once a day
_NUMBER_WITH_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


class ConfigError(Exception):
    """Everything wrong with the configuration, one line each, in ``problems``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _with_unit(text: str, units: Mapping[str, float], example: str) -> float:
    match = _NUMBER_WITH_UNIT.fullmatch(text)
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected a number with a unit, such as {example}")
    return float(match[1]) * factor


def parse_size(value: object) -> object:
    """Bytes from ``16MiB``, ``5MB`` or a plain number."""
    return int(_with_unit(value, _SIZE_UNITS, "16MiB")) if isinstance(value, str) else value


def parse_duration(value: object) -> object:
    """Seconds from ``24h``, ``500ms`` or a plain number."""
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
    except ValueError:  # not even a URL; what it says of it may have a password in it
        return False


def _check_redis_url(value: str) -> str:
    read_redis_url(value)
    return value


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True)


class Bind(_Section):
    """Where a port listens. Port 0 takes a free one."""

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


def _mask_purge_url(url: str) -> str:
    """Without what may be a credential: user and password, and the values of the query but ``{path}``."""
    # To the last @: an odd password has one in it, or what looks like the URL's path.
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
    """The gRPC port. TLS is on as soon as a certificate is given; a client CA asks clients for theirs (mTLS)."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=50051), description="where gRPC listens")
    tls_cert: str = Field("", description="PEM file with the certificate chain; TLS is on as soon as it is given")
    tls_key: str = Field("", description="PEM file with the key, unless it is in the certificate's file")
    tls_client_ca: str = Field("", description="PEM file: clients must show a certificate of this CA (mTLS)")
    auth: Literal["", "off", "token", "mtls", "any"] = Field(
        "",
        description="how callers prove who they are: `token`, `mtls`, `any` of the two, or `off`;"
        " must be given where others than this machine can connect",
    )
    callers_file: str = Field("", description="TOML file of the callers and the methods that each may call")
    max_connections: int = Field(1000, ge=1, description="more are closed at once")
    max_connections_per_peer: int = Field(500, ge=1, description="of one IPv4 address or IPv6 network (/64)")
    max_connection_age: Duration = Field(
        3600.0, gt=0, description="then clients are asked to connect anew, give or take 10 %"
    )
    max_streams: int = Field(100, ge=1, description="calls at once on one connection")
    max_message: Size = Field(1 << 20, description="of one request")
    max_calls: int = Field(
        1000, ge=1, description="handlers at once in the whole process; streams get three quarters of it"
    )
    max_calls_per_peer: int = Field(500, ge=1, description="of one IPv4 address or IPv6 network (/64), likewise")

    @field_validator("auth")
    @classmethod
    def _is_whole(cls, auth: str, info: ValidationInfo) -> str:
        if auth in ("mtls", "any") and not (info.data.get("tls_cert") and info.data.get("tls_client_ca")):
            raise ValueError(f"{auth} needs GRPC__TLS_CERT and GRPC__TLS_CLIENT_CA")
        return auth

    @field_validator("callers_file")
    @classmethod
    def _is_needed(cls, path: str, info: ValidationInfo) -> str:
        auth = info.data.get("auth")  # None when it is wrong itself
        if auth is not None and bool(path) != (auth in ("token", "mtls", "any")):
            raise ValueError("goes with GRPC__AUTH token, mtls or any" if path else f"GRPC__AUTH {auth} needs it")
        return path

    @property
    def authenticates(self) -> bool:
        """Whether callers must prove who they are."""
        return self.auth in ("token", "mtls", "any")


class HttpConfig(_Section):
    """The origin."""

    bind: BindAddress = Field(Bind(host="127.0.0.1", port=8080), description="where the origin listens")
    public_url: HttpUrl = Field("", description="what the commands print in front of origin paths")
    mode: Literal["proxy", "redirect", "accel"] = Field(
        "proxy",
        description="`proxy` sends the store's bytes itself, `redirect` answers 307 with a presigned URL of the store, "
        "`accel` hands that URL to an nginx in front, which fetches it",
    )
    redirect_ttl: Duration = Field(
        3600.0, ge=2, le=7 * 86400, description="life of such a URL; caches may keep the redirect for half of it"
    )
    max_connections: int = Field(1000, ge=1, description="more are closed at once")
    max_connections_per_peer: int = Field(500, ge=1, description="of one IPv4 address or IPv6 network (/64)")


class AdminConfig(_Section):
    """The admin port, never public. `/livez`, `/readyz` and `/metrics` are open, all else is for who has the token."""

    bind: BindAddress = Field(
        Bind(host="127.0.0.1", port=9090), description="where /livez, /readyz, /metrics and /tree listen; never public"
    )
    token: Token = Field(SecretStr(""), description="what operators show, as a bearer token")
    token_file: str = Field("", description="file with such tokens, one a line; read again when it changes")
    auth: Literal["", "off"] = Field(
        "", description="`off`: no token is asked for, although others than this machine can connect"
    )
    uploads: bool = Field(False, description="the console has an upload box; `dev` switches it on")

    @field_validator("auth")
    @classmethod
    def _is_one(cls, auth: str, info: ValidationInfo) -> str:
        if auth == "off" and (info.data.get("token") or info.data.get("token_file")):
            raise ValueError("contradicts ADMIN__TOKEN")
        return auth

    @property
    def authenticates(self) -> bool:
        """Whether operators must show a token."""
        return bool(self.token) or bool(self.token_file)


class ClientConfig(_Section):
    """What the commands show to the running service: `upload`, `cache`, `status`; `tree` and `chaos` as operators."""

    address: OptionalBind = Field(None, description="where gRPC is reached, if not at `GRPC__BIND`")
    token: Token = Field(SecretStr(""), description="the bearer token of a caller")
    token_file: str = Field("", description="file with that token")
    tls_ca: str = Field("", description="PEM file: TLS, to a server with a certificate of this CA")
    tls_cert: str = Field("", description="PEM file with a certificate to show (mTLS)")
    tls_key: str = Field("", description="PEM file with its key, unless it is in the certificate's file")


class RedisConfig(_Section):
    """Redis 7+ or Valkey 8+: one server, Sentinels or a cluster (docs/redis.md)."""

    url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        description="one server, nodes of a cluster, or redis+sentinel://host:port,host:port/master; rediss for TLS",
    )
    connections: int = Field(24, ge=4, description="of this process at most, to one server")
    timeout: Duration = Field(5.0, gt=0, description="of one call")


class S3Config(_Section):
    """The object store. `public_endpoint_url` is the host that clients PUT to; `endpoint_url` when empty."""

    endpoint_url: HttpUrl = Field("", description="the store as the service reaches it; AWS when empty")
    public_endpoint_url: HttpUrl = Field(
        "", description="the store as clients reach it, for uploads; the same when empty"
    )
    signing_profile: str = Field(
        "",
        description="profile of the AWS files whose credentials sign upload URLs; they need only the right to write."
        " The service's own credentials when empty",
    )
    upload_acl: Literal["", "private", "bucket-owner-full-control"] = Field(
        "bucket-owner-full-control",
        description="`x-amz-acl` that upload URLs sign, so that no client can open its upload to others:"
        " `bucket-owner-full-control`, `private`, or empty for a store that accepts neither;"
        " `doctor store` finds the value",
    )
    upload_deny_copy: bool = Field(
        True,
        description="upload URLs sign a condition that no server-side copy meets, so that no client can read other"
        " objects through its URL; `false` only for a store that refuses the header",
    )
    bucket: str = Field("avion-media", min_length=3, max_length=63)
    region: str = "us-east-1"
    threads: int = Field(16, ge=1, description="blocking store calls at once")
    timeout: Duration = Field(10.0, gt=0, description="of one call, retries aside")


class UploadConfig(_Section):
    """Bounds on what is uploaded; pixels are width x height x frames decoded."""

    max_image_bytes: Size = Field(16 << 20, description="of an image")
    max_video_bytes: Size = Field(256 << 20, description="of a video")
    max_pixels: int = Field(50_000_000, ge=1, description="width × height × frames decoded")
    max_frames: int = Field(10_000, ge=1, description="of an animation")
    max_duration: Duration = Field(4 * 3600.0, description="of a video or an animation")
    max_aspect: float = Field(200.0, ge=1, description="the longer side in terms of the shorter one")
    url_ttl: Duration = Field(900.0, ge=1, le=7 * 86400, description="how long an upload URL lives")
    multipart_ttl: Duration = Field(
        86400.0, ge=60, description="how long an upload in parts can go on; then its parts are removed"
    )
    max_pending: int = Field(
        250_000, ge=0, description="requested and not completed, of one caller at one replica; 0: no bound"
    )

    def max_bytes(self, family: Family) -> int:
        """The largest upload of a family."""
        return self.max_image_bytes if family is Family.IMAGE else self.max_video_bytes


class ThumbnailsConfig(_Section):
    """Named sizes: longest edge in pixels."""

    sizes: Sizes = Field(
        (ThumbnailSize("small", 400), ThumbnailSize("medium", 800), ThumbnailSize("large", 1600)),
        description="name:longest edge in pixels; never enlarged",
    )
    quality: int = Field(80, ge=1, le=95, description="of the JPEGs, 1 to 95")
    webp: Literal["off", "alpha", "all"] = Field(
        "alpha", description="which media get WebP thumbnails beside the JPEGs: none, images with transparency, or all"
    )


class RemoteConfig(_Section):
    """The cache of remote servers' media. Each stranger is bounded by itself, and all of them together."""

    max_bytes: Size = Field(64 << 20, description="of a remote file")
    ttl: Duration = Field(7 * 86400.0, description="how long a cached file is fresh, and is kept after its last use")
    negative_ttl: Duration = Field(3600.0, gt=0, description="how long a URL that failed for good is not asked again")
    unreachable_ttl: Duration = Field(300.0, gt=0, description="the same for one whose server did not answer")
    budget: Size = Field(0, description="bytes of the whole cache; beyond it the longest unused go first. 0: no bound")
    deny_hosts: NameList = Field((), description="hosts never fetched from; a name covers everything below it")
    allow_hosts: NameList = Field((), description="if given, the only hosts fetched from")
    deny_networks: Networks = Field((), description="CIDRs never fetched from, besides all that is not public")
    allow_networks: Networks = Field((), description="CIDRs let through the address guard, on any port; for tests")
    user_agent: str = Field(
        "",
        max_length=256,
        pattern=r"^([!-~]([ -~]*[!-~])?)?$",
        description="`avion-media/VERSION` when empty, with `HTTP__PUBLIC_URL` if that is given",
    )
    timeout: Duration = Field(60.0, gt=0, description="of a whole fetch, redirects included")
    max_redirects: int = Field(3, ge=0, le=10)
    slots: int = Field(8, ge=1, description="fetches at once in this process; each may hold `MAX_BYTES` on disk")
    host_slots: int = Field(4, ge=1, description="fetches at once from one host, in all processes")
    breaker_failures: int = Field(5, ge=1, description="of one server in a row, then it is left in peace")
    breaker_pause: Duration = Field(30.0, gt=0, description="for so long at first; doubles with each failed probe")
    breaker_max_pause: Duration = Field(600.0, gt=0, description="the longest of these pauses")
    patience: Duration = Field(900.0, gt=0, description="a URL whose server is left in peace for longer is given up")


class _Decoders(_Section):
    """A switch per format; takes effect in RequestMediaUpload, in validation and in processing."""

    def enabled(self) -> frozenset[str]:
        """Names of the formats (`MediaFormat.name`) that are switched on."""
        return frozenset(name for name, on in self.model_dump().items() if on)


if TYPE_CHECKING:
    DecodersConfig = _Decoders
else:
    _SWITCHES = {fmt.name: (bool, fmt.switched_on) for fmt in FORMATS}
    DecodersConfig = create_model("DecodersConfig", __base__=_Decoders, __doc__=_Decoders.__doc__, **_SWITCHES)


class DeleteConfig(_Section):
    """Deletion is visible at once and final after the delay."""

    delay: Duration = Field(86400.0, description="between a deletion, visible at once, and the removal of the objects")


class CdnConfig(_Section):
    """The CDN in front of the origin, told of deletions."""

    purge_urls: PurgeUrls = Field(
        (),
        description="where to purge: base URLs of caches, or templates with `{path}`; nobody is told when empty."
        " A secret, if there is a token in it",
    )
    purge_method: str = Field("PURGE", pattern="^[A-Z]+$", description="of the request to each of them")
    timeout: Duration = Field(5.0, gt=0, description="of one request; it is repeated until it succeeds")

    @field_validator("purge_urls")
    @classmethod
    def _are_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            _check_url(url)
        return urls


class TasksConfig(_Section):
    """The queues."""

    max_attempts: int = Field(5, ge=1, description="then the task is a dead letter")
    claim_after: Duration = Field(60.0, gt=0, description="a worker silent for so long is taken for dead")
    backoff: Duration = Field(2.0, gt=0, description="before the first retry; doubles, with jitter")
    max_backoff: Duration = Field(300.0, description="longest wait before a retry")
    max_age: Duration = Field(
        14 * 86400.0,
        gt=0,
        description="Age at which a task that has not succeeded becomes the dead letter `expired`; never a deletion",
    )
    slots: int = Field(2, ge=1, description="processing tasks at once in this process")

    @property
    def accepted_life_s(self) -> float:
        """Seconds that an accepted upload, and its status PROCESSING, are kept: longer than any task needs them."""
        return self.max_age + _AFTER_LAST_TASK_S


class SweepConfig(_Section):
    """The reconciliation: `avion-media sweep`, and the `sweeper` role."""

    interval: Duration = Field(3600.0, gt=0, description="from the end of one pass to the begin of the next")
    rate: float = Field(10.0, gt=0, description="requests to the store per second; a listing gives 1000 objects each")
    margin: Duration = Field(3600.0, description="what is younger may belong to work in flight, and is left alone")
    max_fraction: float = Field(0.2, ge=0, le=1, description="of a listing that a pass may remove without `--force`")
    always_allowed: int = Field(100, ge=0, description="objects that a pass may remove, whatever their fraction")


class SandboxConfig(_Section):
    """Bounds of one confined decoder process, and of all of them together."""

    memory: Size = Field(1 << 30, gt=0, description="of one confined process")
    budget: Size = Field(2 << 30, gt=0, description="of all confined processes together")
    cpu: Duration = Field(60.0, gt=0, description="CPU time of one confined process")
    timeout: Duration = Field(90.0, gt=0, description="wall time of one confined process")
    slots: int = Field(2, ge=1, description="confined processes at once")
    require: bool = Field(
        True, description="refuse to start where the kernel cannot confine decoders fully; `false` accepts the gaps"
    )


class DrainConfig(_Section):
    """How long the phases of a shutdown may take."""

    settle: Duration = Field(5.0, description="not ready, but still serving, so that callers move away")
    grace: Duration = Field(25.0, description="for calls and tasks under way")
    termination_grace_period: Duration = Field(60.0, description="Kubernetes' terminationGracePeriodSeconds")


class ChaosConfig(_Section):
    """Killing parts of the running service on purpose: `avion-media chaos`."""

    enabled: bool = Field(False, description="the admin port takes `POST /chaos/kill?path=…`; never in production")


class LogConfig(_Section):
    """Logs go to standard error."""

    format: Literal["json", "console"] = Field(
        "json", description="json or console; when not set, console where standard error is a terminal"
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")


class Config(BaseSettings):
    """All sections. Build it with `load`, or directly from section objects in tests."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", validate_default=True
    )
    SECRETS: ClassVar[frozenset[str]] = frozenset({"redis.url", "cdn.purge_urls", "admin.token", "client.token"})

    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    admin: AdminConfig = AdminConfig()
    client: ClientConfig = ClientConfig()
    redis: RedisConfig = RedisConfig()
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
        """Only what `load` passes in: it reads the environment itself, so that unknown names are errors."""
        return (init_settings,)


def load(environ: Mapping[str, str] = os.environ, *, on_terminal: bool = False) -> Config:
    """Read and check the environment. Raises `ConfigError` with every problem found.

    ``on_terminal``: people read standard error, so that logs are text if nothing else is set.
    """
    sections: dict[str, dict[str, Any]] = {}
    problems = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(PREFIX):
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


def undecided_ports(config: Config, roles: Collection[str]) -> list[str]:
    """The ports that `serve` would open to others than this machine without a word on who may use them; one line each.

    Only who opens a port has to decide: gRPC's is that of the role ``grpc``, the admin port belongs to every role.
    """
    problems = []
    grpc, admin = config.grpc, config.admin
    if "grpc" in roles and not (grpc.auth or grpc.bind.is_loopback):
        problems.append(
            f"{PREFIX}GRPC__AUTH='': must be token, mtls or any (or off, explicitly), since {grpc.bind} is not of this"
            " machine alone"
        )
    if not (admin.auth or admin.authenticates or admin.bind.is_loopback):
        problems.append(
            f"{PREFIX}ADMIN__AUTH='': {admin.bind} is not of this machine alone: give ADMIN__TOKEN or ADMIN__TOKEN_FILE"
            " (or off, explicitly)"
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
    """The URL with its passwords replaced by ``***``."""
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def _masked(value: Any) -> Any:
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return mask_url(value) if isinstance(value, str) else value


def effective(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as plain data, secrets masked, for `avion-media config`."""
    data = config.model_dump(mode="json")
    return {section: {name: _masked(value) for name, value in values.items()} for section, values in data.items()}
