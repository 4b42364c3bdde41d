"""Where the shared S3 is, and how that travels to the test processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_ENDPOINT_URL = "AVION_TEST_S3_ENDPOINT_URL"
_ACCESS_KEY = "AVION_TEST_S3_ACCESS_KEY"
_SECRET_KEY = "AVION_TEST_S3_SECRET_KEY"


@dataclass(frozen=True, slots=True)
class S3Address:
    """An S3 endpoint and the keys of one user on it."""

    endpoint_url: str
    access_key: str
    secret_key: str

    def to_environment(self) -> dict[str, str]:
        """The variables that `s3_address_from` reads."""
        return {_ENDPOINT_URL: self.endpoint_url, _ACCESS_KEY: self.access_key, _SECRET_KEY: self.secret_key}


def s3_address_from(environ: Mapping[str, str] = os.environ) -> S3Address | None:
    """The running S3, or None when nobody started one for us."""
    if _ENDPOINT_URL not in environ:
        return None
    return S3Address(environ[_ENDPOINT_URL], environ[_ACCESS_KEY], environ[_SECRET_KEY])
