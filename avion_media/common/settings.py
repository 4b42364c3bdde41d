"""Values of settings: sizes, durations, addresses, lists. A section of the configuration is a `Section` of them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, SecretStr

from avion_media.common.credentials import MIN_OPERATOR_TOKEN, MIN_TOKEN, is_token, token_format

PREFIX = "AVION_MEDIA_"
_SIZE_UNITS = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_WITH_UNIT = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def is_loopback(host: str) -> bool:
    """Return whether a name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or every address
        return False


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, validate_default=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show no secret: tracebacks and logs print this. Fields with ``repr=False`` stay away."""
        shown = masked(self)
        for name, value in super().__repr_args__():
            yield name, value if isinstance(value, Section) else shown[name or ""]


def masked(section: Section) -> dict[str, Any]:
    """Return the settings of a section as plain data, with masked secrets."""
    return {name: _masked(value) for name, value in section.model_dump(mode="json").items()}


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return mask_url(value) if isinstance(value, str) else value


def mask_url(url: str) -> str:
    """Return the URL with its passwords replaced by ``***``."""
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


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


def seconds_of(text: str) -> float:
    """Return the seconds of ``24h``, ``500ms`` or a plain number. Raises ValueError."""
    return _with_unit(text, _DURATION_UNITS, "15m")


def parse_duration(value: object) -> object:
    """Return the seconds of a text as `seconds_of`; leave any other value."""
    return seconds_of(value) if isinstance(value, str) else value


def split_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _parse_bind(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return Bind(host=host.strip("[]"), port=int(port))


def check_http_url(value: str) -> str:
    if value and not _is_http(value):
        raise ValueError("expected an http:// or https:// address")
    return value.rstrip("/")


def _is_http(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a URL; the error text may contain a password
        return False


def check_base_url(value: str) -> str:
    """Raise ValueError for an address with a query, because paths are appended to it."""
    if "?" in value or "#" in value:
        raise ValueError("expected an address without a query, because paths are appended to it")
    return value


def _check_redis_url(value: str) -> str:
    from trio_redis import read_redis_url  # here, because this loads coredis, which takes half a second

    read_redis_url(value)
    return value


class Bind(Section):
    """Address and port to listen on. Port 0 chooses a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def reachable(self) -> Bind:
        """Where this machine reaches the server, also if it listens on all addresses."""
        wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        return Bind(host=wildcard.get(self.host, self.host), port=self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _check_token(value: SecretStr, min_length: int = MIN_TOKEN) -> SecretStr:
    if value.get_secret_value() and not is_token(value.get_secret_value(), min_length):
        raise ValueError(f"expected {token_format(min_length)}")
    return value


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
BindAddress = Annotated[Bind, BeforeValidator(_parse_bind), PlainSerializer(str)]
OptionalBind = Annotated[Bind | None, BeforeValidator(_parse_bind), PlainSerializer(lambda bind: str(bind or ""))]
NameList = Annotated[tuple[str, ...], BeforeValidator(split_list)]
Networks = Annotated[
    tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...],
    BeforeValidator(split_list),
    PlainSerializer(lambda networks: [str(each) for each in networks]),
]
HttpUrl = Annotated[str, BeforeValidator(lambda value: check_http_url(value) if isinstance(value, str) else value)]
BaseUrl = Annotated[HttpUrl, AfterValidator(check_base_url)]
RedisUrl = Annotated[str, BeforeValidator(lambda value: _check_redis_url(value) if isinstance(value, str) else value)]
OptionalRedisUrl = Annotated[
    str, BeforeValidator(lambda value: _check_redis_url(value) if isinstance(value, str) and value else value)
]
Token = Annotated[SecretStr, AfterValidator(_check_token), PlainSerializer(lambda token: "***" if token else "")]
OperatorToken = Annotated[Token, AfterValidator(lambda token: _check_token(token, MIN_OPERATOR_TOKEN))]
