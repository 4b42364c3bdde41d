"""Converts errors of `trio_s3`, botocore and urllib3 to errors of the domain.

An outage, a full store, a missing bucket, a throttled call, and refused or missing credentials are all `Unavailable`: a
state that ends by itself. A request that the store calls invalid is a bug: `StoreRefused`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from urllib3.exceptions import HTTPError

import trio_s3
from avion_media.common.errors import Dependency, MediaError, ObjectMissing, PreconditionFailed, Unavailable
from trio_s3 import Refusal, refusal_of

NO_CREDENTIALS = (
    "no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or any other source that boto3 knows"
)

LOST_BUCKET = "docs/how-to/recover-a-lost-bucket.md"


_WHY = {
    Refusal.FULL: "it is full",
    Refusal.SKEWED: "the clock here or there is wrong",
    Refusal.FORBIDDEN: "it refuses the credentials (wrong key, bucket policy or clock)",
}


class TooLarge(MediaError):
    """The object has more bytes than the caller allowed. Nothing of it was returned."""

    def __init__(self, key: str, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"{key} has {size_bytes} bytes, more than {max_bytes}")
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes


class RangeNotSatisfiable(MediaError):
    """The requested range begins after the end of the object."""


class UploadMissing(MediaError):
    """There is no such multipart upload: it was completed or aborted, has expired, or never existed."""


class StoreRefused(MediaError):
    """The store calls the request invalid: a bug or a wrong setting, not an outage."""


def no_bucket(media: int = 0) -> Unavailable:
    """Return the error for a bucket that does not exist. ``media``: how many were in it, if that is known."""
    detail = f"the bucket does not exist: if it had media, follow {LOST_BUCKET}, else run avion-media init"
    if media:
        detail = (
            f"the bucket does not exist, but the last sweep counted {media:,} media: follow {LOST_BUCKET};"
            " avion-media init --new-bucket creates an empty one"
        )
    return Unavailable(Dependency.STORE, detail, retry_after_s=5.0, setting="AVION_MEDIA_S3__BUCKET")


def no_store() -> Unavailable:
    """Return the error for a server that answers 404 without an error of S3."""
    detail = "it answers 404 without an error of S3: most likely this address is not that of an S3 store"
    return Unavailable(Dependency.STORE, detail, retry_after_s=5.0, setting="AVION_MEDIA_S3__ENDPOINT_URL")


def refused(refusal: Refusal, key: str, detail: str) -> MediaError:
    """Return the error for a response that is not a success."""
    match refusal:
        case Refusal.NO_BUCKET:
            return no_bucket()
        case Refusal.MISSING:
            return ObjectMissing(key)
        case Refusal.PRECONDITION:
            return PreconditionFailed(key)
        case Refusal.RANGE:
            return RangeNotSatisfiable(key)
        case Refusal.MAY_PASS:
            return Unavailable(Dependency.STORE, detail)
        case Refusal.INVALID:
            return StoreRefused(detail)
    return Unavailable(Dependency.STORE, f"{_WHY[refusal]}: {detail}", retry_after_s=5.0)


def translate(error: Exception, key: str = "") -> MediaError:
    """Return the error of the domain for an error of `trio_s3`, botocore or urllib3."""
    if isinstance(error, trio_s3.Refused):
        return refused(error.refusal, error.key, error.detail)
    if isinstance(error, trio_s3.TooLarge):
        return TooLarge(error.key, error.size_bytes, error.max_bytes)
    if isinstance(error, trio_s3.NotS3):
        return no_store()
    if isinstance(error, trio_s3.NoAnswer):
        return Unavailable(Dependency.STORE, str(error))
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return refused(refusal_of(code, status), key, str(error))
    if isinstance(error, NoCredentialsError):
        return Unavailable(Dependency.STORE, NO_CREDENTIALS, retry_after_s=5.0)
    if isinstance(error, PartialCredentialsError | CredentialRetrievalError | TokenRetrievalError | ProfileNotFound):
        return Unavailable(Dependency.STORE, f"its credentials cannot be had: {error}", retry_after_s=5.0)
    if isinstance(error, NoConnectionError | HTTPClientError | IncompleteReadError | HTTPError):
        return Unavailable(Dependency.STORE, str(error))
    return StoreRefused(str(error))


@contextmanager
def translated(key: str = "") -> Iterator[None]:
    """Convert errors of botocore and urllib3 inside the block to errors of the domain.

    Both wrap errors of their sockets, so an OSError is one of a local file (a full disk), and stays unchanged.
    """
    try:
        yield
    except (BotoCoreError, ClientError, HTTPError) as error:
        raise translate(error, key) from error
