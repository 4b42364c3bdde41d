"""Settings of Redis, the queues, the object store, and other servers."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, field_validator

from avion_media.common.media import ATTACHMENT, REMOTE_KINDS
from avion_media.common.settings import (
    Duration,
    HttpUrl,
    NameList,
    Networks,
    OptionalRedisUrl,
    RedisUrl,
    Section,
    Size,
    parse_size,
    seconds_of,
)

_SHORTEST_PREFIX = 7  # of fc00::/7, the inner addresses of IPv6; the largest such network of IPv4 is 10.0.0.0/8
_SIZES = (("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
_DAY_S = 86_400
_AFTER_LAST_TASK_S = 2 * 86400.0  # a bucket's lifecycle rules count in whole days, and run once a day


class RedisConfig(Section):
    """Redis 7+ or Valkey 8+: one server, Sentinels or a cluster (docs/redis.md)."""

    url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        description="One server, nodes of a cluster, or redis+sentinel://host:port,host:port/master; rediss for TLS",
    )
    timeout: Duration = Field(5.0, ge=0.1, description="Timeout of one call")


class StatusConfig(Section):
    """Statuses, deletion records and remote state."""

    redis_url: OptionalRedisUrl = Field(
        "", description="Redis for statuses, deletion records and remote state; empty: `REDIS__URL`"
    )


class S3Config(Section):
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
    bucket: str = Field("avion-media", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Name of the bucket")
    region: str = Field(
        "us-east-1", pattern="^[A-Za-z0-9-]+$", description="Region of the bucket, which is a part of each signature"
    )
    threads: int = Field(16, ge=1, description="Maximum concurrent calls to the store; visitors have as many more")
    timeout: Duration = Field(10.0, gt=0, description="Timeout of one request, excluding retries")


class TasksConfig(Section):
    """The queues."""

    max_attempts: int = Field(5, ge=1, description="Failed attempts after which a task becomes a dead letter")
    claim_after: Duration = Field(
        60.0,
        ge=0.5,
        description="A worker that has not renewed its lease for this long counts as dead, and its task is reassigned",
    )
    backoff: Duration = Field(
        2.0, gt=0, description="Wait before the first retry; doubles with each retry, with jitter"
    )
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


@dataclass(frozen=True, slots=True)
class RemoteKind:
    """What remote files of one kind may have: bytes, and the time for which a copy is fresh and kept."""

    name: str
    max_bytes: int
    ttl_s: float

    def __str__(self) -> str:
        size = next((f"{self.max_bytes // unit}{name}" for name, unit in _SIZES if self.max_bytes % unit == 0), "")
        time = f"{self.ttl_s / _DAY_S:g}d" if self.ttl_s % _DAY_S == 0 else f"{self.ttl_s:g}s"
        return f"{self.name}:{size}:{time}"


def _parse_kinds(value: object) -> object:
    if not isinstance(value, str):
        return value
    kinds = []
    for part in value.replace(" ", "").split(","):
        name, _, limits = part.partition(":")
        size, _, ttl = limits.partition(":")
        if name not in REMOTE_KINDS:
            raise ValueError(f"expected kind:size:time, with a kind of {', '.join(REMOTE_KINDS)}")
        kinds.append(RemoteKind(name, cast("int", parse_size(size)), seconds_of(ttl)))
    if len({kind.name for kind in kinds}) != len(kinds):
        raise ValueError("a kind is given twice")
    return tuple(kinds)


Kinds = Annotated[
    tuple[RemoteKind, ...],
    BeforeValidator(_parse_kinds),
    PlainSerializer(lambda kinds: ",".join(map(str, kinds))),
]


class RemoteConfig(Section):
    """The cache of other servers' media, with limits for each server and for all together."""

    max_bytes: Size = Field(64 << 20, description="Maximum size of a remote file")
    ttl: Duration = Field(7 * 86400.0, description="How long a cached file is fresh, and is kept after its last use")
    kinds: Kinds = Field(
        (
            RemoteKind("avatar", 2 << 20, 30 * 86400.0),
            RemoteKind("header", 5 << 20, 30 * 86400.0),
            RemoteKind("emoji", 512 << 10, 90 * 86400.0),
            RemoteKind("preview_card", 2 << 20, 7 * 86400.0),
        ),
        description="Maximum size and time to live of kinds of remote media; all others have `MAX_BYTES` and `TTL`",
    )
    negative_ttl: Duration = Field(3600.0, gt=0, description="How long a permanently failed URL is not fetched again")
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
    timeout: Duration = Field(60.0, gt=0, description="Timeout of a whole fetch, including redirects")
    slots: int = Field(
        8, ge=1, description="Maximum concurrent fetches of this process; each can hold `MAX_BYTES` on disk"
    )
    host_slots: int = Field(4, ge=1, description="Maximum concurrent fetches from one host, over all processes")
    breaker_pause: Duration = Field(
        30.0, gt=0, description="First pause after the breaker opens; doubles with each failed probe"
    )

    def kind(self, name: str) -> RemoteKind:
        """Return the limits of a kind. One without limits of its own has those of attachments, but its name."""
        known = {each.name: each for each in self.kinds}
        return known.get(name) or RemoteKind(name if name in REMOTE_KINDS else ATTACHMENT, self.max_bytes, self.ttl)

    @field_validator("allow_networks")
    @classmethod
    def _leave_the_guard_on(cls, networks: tuple[IPv4Network | IPv6Network, ...]) -> object:
        for network in networks:
            if network.prefixlen < _SHORTEST_PREFIX:
                raise ValueError(f"{network} would switch the address guard off; expected at least /{_SHORTEST_PREFIX}")
        return networks

    @field_validator("budget")
    @classmethod
    def _holds_one(cls, budget: int, info: ValidationInfo) -> int:
        if 0 < budget < info.data.get("max_bytes", 0):
            raise ValueError("must hold at least one file of REMOTE__MAX_BYTES, or be 0")
        return budget
