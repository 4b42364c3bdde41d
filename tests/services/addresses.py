"""Where the services are, and how that travels to the test processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_REDIS_URL = "AVION_TEST_REDIS_URL"
_S3_ENDPOINT_URL = "AVION_TEST_S3_ENDPOINT_URL"
_S3_ACCESS_KEY = "AVION_TEST_S3_ACCESS_KEY"
_S3_SECRET_KEY = "AVION_TEST_S3_SECRET_KEY"


@dataclass(frozen=True, slots=True)
class S3Address:
    """An S3 endpoint and the keys of one user on it."""

    endpoint_url: str
    access_key: str
    secret_key: str


def to_environment(redis_url: str, s3: S3Address) -> dict[str, str]:
    """The variables that `redis_url_from` and `s3_address_from` read."""
    return {
        _REDIS_URL: redis_url,
        _S3_ENDPOINT_URL: s3.endpoint_url,
        _S3_ACCESS_KEY: s3.access_key,
        _S3_SECRET_KEY: s3.secret_key,
    }


def redis_url_from(environ: Mapping[str, str] = os.environ) -> str | None:
    """The running Redis, or None when nobody started one for us."""
    return environ.get(_REDIS_URL)


def s3_address_from(environ: Mapping[str, str] = os.environ) -> S3Address | None:
    """The running S3, or None when nobody started one for us."""
    if _S3_ENDPOINT_URL not in environ:
        return None
    return S3Address(environ[_S3_ENDPOINT_URL], environ[_S3_ACCESS_KEY], environ[_S3_SECRET_KEY])
