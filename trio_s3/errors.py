"""What a request to a store can end with, besides its result."""

from __future__ import annotations

from enum import Enum

_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_PRECONDITION = frozenset({"412", "PreconditionFailed"})
_RANGE = frozenset({"416", "InvalidRange"})
FORBIDDEN = frozenset({"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})
SKEWED = "RequestTimeTooSkewed"
_FULL = frozenset(
    {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
)
# 409: a conditional write raced with another; NoSuchUpload: a multipart upload vanished, or its reply was lost.
# Both end well when the whole step is done again.
_TRANSIENT = frozenset({"409", "ConditionalRequestConflict", "OperationAborted", "NoSuchUpload", "RequestTimeout"})


class Refusal(Enum):
    """What a response that is not a success means for its caller."""

    MISSING = "missing"  # the object
    NO_BUCKET = "no_bucket"
    PRECONDITION = "precondition"  # of a conditional request
    RANGE = "range"  # it begins behind the end
    FULL = "full"  # the store, or a quota
    SKEWED = "skewed"  # a clock, here or there
    FORBIDDEN = "forbidden"  # wrong credentials, or a policy
    MAY_PASS = "may_pass"  # the store is overloaded or failing
    INVALID = "invalid"  # the request


def refusal_of(code: str, status: int) -> Refusal:
    """Return what a response means. ``code`` is that of its body, or else its status; a ``status`` of 0 is unknown."""
    for codes, refusal in (
        ({"NoSuchBucket"}, Refusal.NO_BUCKET),
        (_MISSING, Refusal.MISSING),
        (_PRECONDITION, Refusal.PRECONDITION),
        (_RANGE, Refusal.RANGE),
        (_FULL, Refusal.FULL),
        ({SKEWED}, Refusal.SKEWED),
        (FORBIDDEN, Refusal.FORBIDDEN),
        (_TRANSIENT, Refusal.MAY_PASS),
    ):
        if code in codes:
            return refusal
    by_status = {507: Refusal.FULL, 401: Refusal.FORBIDDEN, 403: Refusal.FORBIDDEN, 429: Refusal.MAY_PASS}
    return by_status.get(status, Refusal.MAY_PASS if status >= 500 or status == 0 else Refusal.INVALID)


class S3Error(Exception):
    """Base of the errors of this library. ``may_pass``: the request may succeed if it is repeated."""

    may_pass = False


class Refused(S3Error):
    """The store answered with an error: ``refusal`` says which, and ``detail`` describes it for operators."""

    def __init__(self, code: str, status: int, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}" if key else detail)
        self.refusal = refusal_of(code, status)
        self.key = key
        self.detail = detail
        self.may_pass = self.refusal is Refusal.MAY_PASS


class NoAnswer(S3Error):
    """The store did not answer in time, its connection broke, or what came is not its answer."""

    def __init__(self, detail: str, *, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


class NotS3(S3Error):
    """A server answers, but not as an S3 store."""


class TooLarge(S3Error):
    """The object has more bytes than the caller allowed. Nothing of it was returned."""

    def __init__(self, key: str, size_bytes: int, max_bytes: int) -> None:
        super().__init__(f"{key} has {size_bytes} bytes, more than {max_bytes}")
        self.key = key
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes
