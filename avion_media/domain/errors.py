"""Every way in which work can fail, and the one table of stable codes.

Three kinds matter to callers: `Rejected` (the medium itself is at fault: permanent, ends as FAILED with its code),
`Unavailable` (something outside is away: retry later), and everything else (a defect of ours).
Adapters translate their library's exceptions into these; nothing above an adapter sees a library's exception.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable machine-readable codes in `MediaStatus.reason`, events and dead letters. The list only grows."""

    MISSING = "missing"  # nothing was uploaded, or it is gone
    EMPTY = "empty"  # no bytes at all
    SIZE_MISMATCH = "size_mismatch"  # other length or SHA-256 than was declared
    CHECKSUM_MISMATCH = "checksum_mismatch"
    UNKNOWN_TYPE = "unknown_type"  # the content is of no type that we know
    UNSUPPORTED_TYPE = "unsupported_type"  # known, but not accepted (or its decoder is switched off)
    TYPE_MISMATCH = "type_mismatch"  # another family than declared
    CORRUPT = "corrupt"  # recognised, but does not decode
    NO_VIDEO = "no_video"  # a container without a picture
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    BAD_DIMENSIONS = "bad_dimensions"  # zero, or beyond what a side may be
    TOO_LONG = "too_long"  # duration
    TOO_LARGE = "too_large"  # bytes
    DECODER_LIMIT = "decoder_limit"  # memory, CPU or time of the cage ran out
    DECODER_CRASHED = "decoder_crashed"
    EXTERNAL_REFERENCE = "external_reference"  # a container that points outside itself
    REMOTE_REFUSED = "remote_refused"  # one code for every refusal of the fetcher: no oracle
    REMOTE_UNREACHABLE = "remote_unreachable"
    REMOTE_STATUS = "remote_status"  # the remote server answered with an error
    MALFORMED_TASK = "malformed_task"  # a producer wrote fields that cannot be read
    POISON = "poison"  # killed its process too often
    INTERNAL = "internal"  # attempts ran out on a defect of ours


class MediaError(Exception):
    """Base of all errors that this service raises on purpose."""


class Rejected(MediaError):
    """The medium (or the remote URL) is at fault; trying again cannot help. `detail` is for operators only."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class Unavailable(MediaError):
    """Something outside is away (`what` is "store", "redis", "cage", "remote"): the same call may succeed later."""

    def __init__(self, what: str, detail: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(f"{what} is not available{': ' + detail if detail else ''}")
        self.what = what
        self.detail = detail
        self.retry_after_s = retry_after_s


class Overloaded(MediaError):
    """A bound of our own is reached; the caller should slow down."""


class ObjectMissing(MediaError):
    """No object under that key."""


class PreconditionFailed(MediaError):
    """A conditional write or read found another state than it asked for."""


class LeaseLost(MediaError):
    """The task belongs to somebody else by now: stop at once, publish nothing, acknowledge nothing."""
