"""Every way in which work can fail, and the one table of stable codes.

Three kinds matter to callers: `Rejected` (the medium itself is at fault: permanent, ends as FAILED with its code),
`Unavailable` (something outside is away: retry later), and everything else (a defect of ours).
Adapters translate their library's exceptions into these; nothing above an adapter sees a library's exception.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable machine-readable codes in `MediaStatus.reason`, events and dead letters. The list only grows."""

    MISSING = "missing"
    EMPTY = "empty"
    UNKNOWN_TYPE = "unknown_type"
    UNSUPPORTED_TYPE = "unsupported_type"
    TYPE_MISMATCH = "type_mismatch"
    CORRUPT = "corrupt"
    NO_VIDEO = "no_video"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    BAD_DIMENSIONS = "bad_dimensions"
    BAD_ASPECT = "bad_aspect"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    DECODER_LIMIT = "decoder_limit"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_KILLED = "decoder_killed"
    EXTERNAL_REFERENCE = "external_reference"
    REMOTE_REFUSED = "remote_refused"
    REMOTE_UNREACHABLE = "remote_unreachable"
    REMOTE_STATUS = "remote_status"
    MALFORMED_TASK = "malformed_task"
    POISON = "poison"
    UNREADABLE = "unreadable"
    EXPIRED = "expired"
    INTERNAL = "internal"


MEANINGS: dict[Reason, str] = {
    Reason.MISSING: "nothing was uploaded, or it is gone",
    Reason.EMPTY: "the file has no bytes",
    Reason.UNKNOWN_TYPE: "the content is of no type that we know",
    Reason.UNSUPPORTED_TYPE: "the type is known, but not accepted, or its decoder is switched off",
    Reason.TYPE_MISMATCH: "the content is of another family (image, video) than declared",
    Reason.CORRUPT: "the type was recognised, but the content does not decode",
    Reason.NO_VIDEO: "a video container without a picture in it",
    Reason.TOO_MANY_PIXELS: "more pixels than `UPLOAD__MAX_PIXELS`",
    Reason.TOO_MANY_FRAMES: "more frames than `UPLOAD__MAX_FRAMES`",
    Reason.BAD_DIMENSIONS: "a side is zero, or longer than any decoder takes",
    Reason.BAD_ASPECT: "one side is longer than `UPLOAD__MAX_ASPECT` times the other",
    Reason.TOO_LONG: "longer than `UPLOAD__MAX_DURATION`",
    Reason.TOO_LARGE: "more bytes than the limit of its family, or than `REMOTE__MAX_BYTES`",
    Reason.DECODER_LIMIT: "decoding needed more memory, time or output than one confined process may use",
    Reason.DECODER_CRASHED: "the decoder was killed by the content",
    Reason.DECODER_KILLED: "the decoder was killed from outside in all attempts, most likely for want of memory",
    Reason.EXTERNAL_REFERENCE: "a container that points outside itself",
    Reason.REMOTE_REFUSED: "the remote URL leads where the fetcher does not go; one code for all refusals",
    Reason.REMOTE_UNREACHABLE: "the remote server did not answer, in all attempts",
    Reason.REMOTE_STATUS: "the remote server's answer was no medium: an error status, too many redirects, not HTTP",
    Reason.MALFORMED_TASK: "the task's fields cannot be read (a foreign producer's mistake)",
    Reason.POISON: "three workers crashed while processing it",
    Reason.UNREADABLE: "the object store returned errors for its objects, and only for these, in all attempts",
    Reason.EXPIRED: "its task was not done within `TASKS__MAX_AGE`",
    Reason.INTERNAL: "attempts ran out on a defect of this service; its log has an error for each",
}

OURS = frozenset({Reason.INTERNAL, Reason.POISON, Reason.DECODER_KILLED, Reason.UNREADABLE, Reason.EXPIRED})
"""Failures of ours, whose tasks an operator may replay: the upload is kept, and a later word about it counts."""
RETRYABLE = frozenset(
    {
        Reason.INTERNAL,
        Reason.DECODER_KILLED,
        Reason.UNREADABLE,
        Reason.EXPIRED,
        Reason.REMOTE_UNREACHABLE,
        Reason.MISSING,
    }
)
"""Failures where the same client may fairly try again with the same file."""


class Dependency(StrEnum):
    """What work needs and may find away: `Unavailable.what`, and in metrics the reason of a retry."""

    STORE = "store"
    OBJECT = "object"  # one object of the store, while others can be read and written
    REDIS = "redis"
    SANDBOX = "sandbox"
    DISK = "disk"  # ours: the spool is full, or fails
    CDN = "cdn"
    REMOTE = "remote"  # one server among many
    UPLOAD = "upload"  # of one medium: it was replaced while it was read


class MediaError(Exception):
    """Base of all errors that this service raises on purpose."""


class Rejected(MediaError):
    """The medium (or the remote URL) is at fault; trying again cannot help. `detail` is for operators only."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class Unavailable(MediaError):
    """Something outside is away: the same call may succeed later."""

    def __init__(self, what: Dependency, detail: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(f"{what} is not available{': ' + detail if detail else ''}")
        self.what = what
        self.detail = detail
        self.retry_after_s = retry_after_s


class Deferred(Unavailable):
    """Not now, though nothing failed: a remote host has all of its slots taken, or is left in peace for a while.

    The task comes again after ``retry_after_s``, at no attempt. ``patient``: its turn comes for certain, so it may wait
    as long as that takes; one that is not is given up at some time.
    """

    def __init__(self, detail: str, retry_after_s: float, *, patient: bool = True) -> None:
        super().__init__(Dependency.REMOTE, detail, retry_after_s)
        self.patient = patient


class DecoderKilled(Unavailable):
    """The process that decoded the file was killed from outside: memory ran out, or the fork server died.

    Nobody knows whether the medium was to blame. So an attempt is used up, as it must end if it was.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Dependency.SANDBOX, detail)


class Overloaded(MediaError):
    """A bound of our own is reached; the caller should slow down."""


class ObjectMissing(MediaError):
    """No object under that key."""


class PreconditionFailed(MediaError):
    """A conditional write or read found another state than it asked for."""


class SourceReplaced(PreconditionFailed):
    """What was to be copied or read on is not the object any more that it was begun with; the target is untouched."""


class LeaseLost(MediaError):
    """The task belongs to somebody else by now: stop at once, publish nothing, acknowledge nothing."""
