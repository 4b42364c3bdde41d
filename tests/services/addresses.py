"""Where the shared S3 is, and how that travels to the test processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_ENDPOINT_URL = "AVION_TEST_S3_ENDPOINT_URL"
_ACCESS_KEY = "AVION_TEST_S3_ACCESS_KEY"
_SECRET_KEY = "AVION_TEST_S3_SECRET_KEY"
_UPLOAD_ACCESS_KEY = "AVION_TEST_S3_UPLOAD_ACCESS_KEY"
_UPLOAD_SECRET_KEY = "AVION_TEST_S3_UPLOAD_SECRET_KEY"


@dataclass(frozen=True, slots=True)
class S3Address:
    """An S3 endpoint and the keys of one user on it. With the upload keys the same user can write, but not read."""

    endpoint_url: str
    access_key: str
    secret_key: str
    upload_access_key: str = ""
    upload_secret_key: str = ""

    def to_environment(self) -> dict[str, str]:
        """The variables that `s3_address_from` reads."""
        return {
            _ENDPOINT_URL: self.endpoint_url,
            _ACCESS_KEY: self.access_key,
            _SECRET_KEY: self.secret_key,
            _UPLOAD_ACCESS_KEY: self.upload_access_key,
            _UPLOAD_SECRET_KEY: self.upload_secret_key,
        }


def s3_address_from(environ: Mapping[str, str] = os.environ) -> S3Address | None:
    """The running S3, or None when nobody started one for us."""
    if _ENDPOINT_URL not in environ:
        return None
    names = (_ENDPOINT_URL, _ACCESS_KEY, _SECRET_KEY, _UPLOAD_ACCESS_KEY, _UPLOAD_SECRET_KEY)
    return S3Address(*(environ[name] for name in names))
