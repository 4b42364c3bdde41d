"""The configuration: environment variables ``AVION_MEDIA_<SECTION>__<NAME>``, checked once, then frozen.

`load` returns one `Config`, or raises one `ConfigError` that lists every problem: the variable, its value (masked if it
is a secret) and the expected format. The object store's credentials come from boto3's own chain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import ValidationError

from avion_media.common.settings import PREFIX, mask_url, masked
from avion_media.servers.settings import ServerSettings

# Kubernetes sets these in a pod beside a Service whose name begins with "avion-media" (`enableServiceLinks`).
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?!\w*__)(?:\w*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)\w*)?)", re.ASCII
)


class ConfigError(Exception):
    """All problems of the configuration, one line each, in ``problems``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Config(ServerSettings):
    """All sections. Build it with `load`, or directly from section objects in tests."""

    SECRETS: ClassVar[frozenset[str]] = frozenset(
        {"redis.url", "status.redis_url", "cdn.purge_urls", "admin.token", "client.token", "moderation.hook_token"}
    )


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
            f"{PREFIX}ADMIN__AUTH='': {admin.bind} accepts connections from other machines: set ADMIN__TOKEN,"
            " ADMIN__TOKEN_FILE or ADMIN__ROLE_HEADER (or off, explicitly)"
        )
    return problems


def _describe(error: Any, sections: Mapping[str, Mapping[str, Any]]) -> str:
    section, *rest = (str(part) for part in error["loc"])
    name = rest[0] if rest else ""
    variable = f"{PREFIX}{section}__{name}".upper()
    if error["type"] == "extra_forbidden":
        return f"{variable}: no such setting"
    value = sections.get(section, {}).get(name)
    if value is not None:  # otherwise it is a default that does not fit another setting
        shown = "***" if f"{section}.{name}" in Config.SECRETS else repr(mask_url(value))
        variable = f"{variable}={shown}"
    return f"{variable}: {error['msg'].removeprefix('Value error, ')}"


def effective(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as plain data, with masked secrets, for `avion-media config`."""
    return masked(config)
