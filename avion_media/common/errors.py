"""All errors of this service, and the table of their stable codes.

Three kinds matter to callers: `Rejected` (the file or URL is at fault: permanent, ends as FAILED with its code),
`Unavailable` (a dependency is unavailable: retry later), and everything else (a bug).
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
    NO_SOUND = "no_sound"
    SEVERAL_TRACKS = "several_tracks"
    ENCRYPTED = "encrypted"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    BAD_DIMENSIONS = "bad_dimensions"
    BAD_ASPECT = "bad_aspect"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    TOO_COMPLEX = "too_complex"
    DECODER_LIMIT = "decoder_limit"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_FAILED = "decoder_failed"
    DECODER_KILLED = "decoder_killed"
    EXTERNAL_REFERENCE = "external_reference"
    REMOTE_REFUSED = "remote_refused"
    REMOTE_UNREACHABLE = "remote_unreachable"
    REMOTE_STATUS = "remote_status"
    NOT_CACHEABLE = "not_cacheable"
    OWN_URL = "own_url"
    MALFORMED_TASK = "malformed_task"
    POISON = "poison"
    UNREADABLE = "unreadable"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    BLOCKED_HOST = "blocked_host"
    HELD = "held"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


MEANINGS: dict[Reason, str] = {
    Reason.MISSING: "no file was uploaded, or it was removed",
    Reason.EMPTY: "the file is empty",
    Reason.UNKNOWN_TYPE: "the file type was not recognised",
    Reason.UNSUPPORTED_TYPE: "the file type is known, but it is not supported, or its decoder is switched off",
    Reason.TYPE_MISMATCH: "the content is not of the declared family: image, video or audio",
    Reason.CORRUPT: "the file is damaged and cannot be decoded",
    Reason.NO_VIDEO: "the container has no video track",
    Reason.NO_SOUND: "the audio file has no sound",
    Reason.SEVERAL_TRACKS: "the audio file has several tracks of sound, moving pictures, or chained streams",
    Reason.ENCRYPTED: "the file is encrypted (DRM)",
    Reason.TOO_MANY_PIXELS: "the file has more pixels than `UPLOAD__MAX_PIXELS`",
    Reason.TOO_MANY_FRAMES: "the file has more than 10,000 frames",
    Reason.BAD_DIMENSIONS: "width or height is zero, or beyond what decoders accept",
    Reason.BAD_ASPECT: "one side is more than 200 times the other",
    Reason.TOO_LONG: "the video is longer than `UPLOAD__MAX_DURATION`, or the sound than `UPLOAD__MAX_AUDIO_DURATION`",
    Reason.TOO_LARGE: "the file is larger than the limit for its kind, or than `REMOTE__MAX_BYTES`",
    Reason.TOO_COMPLEX: "the container has more than 200,000 boxes or elements, 4,000,000 samples or 100 edits",
    Reason.DECODER_LIMIT: "decoding exceeded the sandbox's limit on memory, CPU time or output",
    Reason.DECODER_CRASHED: "the file crashed the decoder",
    Reason.DECODER_FAILED: "the decoder stopped at this file with an error that it does not know, in two attempts",
    Reason.DECODER_KILLED: "the decoder was killed in every attempt: the host ran out of memory, or has too little CPU",
    Reason.EXTERNAL_REFERENCE: "the container refers to other files",
    Reason.REMOTE_REFUSED: "the URL points to an address that must not be fetched, or its host does not exist",
    Reason.REMOTE_UNREACHABLE: "the remote server did not respond in any attempt",
    Reason.REMOTE_STATUS: "the remote server responded with an error status, too many redirects, or not in HTTP",
    Reason.NOT_CACHEABLE: "the remote server forbids copies: `Cache-Control` with `private` or `no-store`",
    Reason.OWN_URL: "the URL is one of this installation, or redirects to one: a copy would outlive its media item",
    Reason.MALFORMED_TASK: "the task's fields cannot be read; another service sent it",
    Reason.POISON: "three workers crashed while processing it",
    Reason.UNREADABLE: "the object store returned errors for its objects, and only for these, in every attempt",
    Reason.EXPIRED: "its task was not done within `TASKS__MAX_AGE`",
    Reason.BLOCKED: "a moderator blocked it, or it is on a block list",
    Reason.BLOCKED_HOST: "a moderator blocked the host of the URL, or one that it redirects to",
    Reason.HELD: "a moderator must decide about the media item; until then it stays PROCESSING",
    Reason.CANCELLED: "an operator cancelled its task",
    Reason.INTERNAL: "every attempt failed because of a bug in this service; the log has an error for each",
}

SENTENCES: dict[Reason, str] = {
    Reason.MISSING: "The file did not arrive. Please upload it again.",
    Reason.EMPTY: "The file is empty.",
    Reason.UNKNOWN_TYPE: "This type of file is not known.",
    Reason.UNSUPPORTED_TYPE: "This type of file is not supported.",
    Reason.TYPE_MISMATCH: "The file is not of the kind that its name promises: image, video or sound.",
    Reason.CORRUPT: "The file is damaged. Please open it on your device and save it again.",
    Reason.NO_VIDEO: "The file contains no video.",
    Reason.NO_SOUND: "The file contains no sound.",
    Reason.SEVERAL_TRACKS: "The file contains more than one track. Please export its sound alone, as one track.",
    Reason.ENCRYPTED: "The file is protected against copying, so it cannot be published.",
    Reason.TOO_MANY_PIXELS: "The picture is too large. At most {max_pixels} pixels are accepted (width × height).",
    Reason.TOO_MANY_FRAMES: "The animation has too many frames. At most {max_frames} are accepted.",
    Reason.BAD_DIMENSIONS: "The picture has no width or height, or one side is longer than {max_side} pixels.",
    Reason.BAD_ASPECT: "The picture is too narrow. The longer side can be at most {max_aspect} times the other.",
    Reason.TOO_LONG: "The file is too long. Videos can have {max_duration} and audio {max_audio_duration}.",
    Reason.TOO_LARGE: "The file is too large. Images can have {max_image_bytes}, videos {max_video_bytes} and audio"
    " {max_audio_bytes}.",
    Reason.TOO_COMPLEX: "The file has too many parts. Please save it again in a usual format.",
    Reason.DECODER_LIMIT: "The file is too complex to be processed. Please save it again in a usual format.",
    Reason.DECODER_CRASHED: "The file could not be processed. Please save it again in a usual format.",
    Reason.DECODER_FAILED: "The file could not be processed. Please save it again in a usual format.",
    Reason.DECODER_KILLED: "The file could not be processed because of a problem here. Please try again later.",
    Reason.EXTERNAL_REFERENCE: "Parts of the file are in other files. Please export it as one file.",
    Reason.REMOTE_REFUSED: "The file cannot be fetched from this address.",
    Reason.REMOTE_UNREACHABLE: "The other server does not respond. Please try again later.",
    Reason.REMOTE_STATUS: "The other server does not return the file.",
    Reason.NOT_CACHEABLE: "The other server does not allow copies of the file.",
    Reason.OWN_URL: "The file is on this server already.",
    Reason.MALFORMED_TASK: "The file could not be processed because of a problem here.",
    Reason.POISON: "The file could not be processed because of a problem here.",
    Reason.UNREADABLE: "The file could not be read because of a problem here. Please try again later.",
    Reason.EXPIRED: "The file was not processed in time. Please upload it again.",
    Reason.BLOCKED: "The file cannot be published here.",
    Reason.BLOCKED_HOST: "The file cannot be fetched from this server.",
    Reason.HELD: "The file is waiting for a moderator.",
    Reason.CANCELLED: "The processing was cancelled. Please upload the file again.",
    Reason.INTERNAL: "The file could not be processed because of a problem here. Please try again later.",
}
"""A sentence about each reason for the person who uploaded. Names in braces are limits of `Capabilities`."""

_OTHER_FILE = "No action is needed: the client must send another file."
_RAISE_THE_LIMIT = "To accept such files, raise the limit; otherwise no action is needed."
ADVICE: dict[Reason, str] = {
    **dict.fromkeys(Reason, _OTHER_FILE),  # unless another row says otherwise
    **dict.fromkeys((Reason.TOO_MANY_PIXELS, Reason.TOO_LONG, Reason.TOO_LARGE), _RAISE_THE_LIMIT),
    Reason.MISSING: "The client must upload the file again.",
    Reason.UNSUPPORTED_TYPE: "To accept this type, switch its decoder on (`DECODERS__…`, `UPLOAD__AUDIO`).",
    Reason.DECODER_LIMIT: "Check whether valid files end this way; if so, raise the sandbox's limits.",
    Reason.DECODER_CRASHED: "Keep the file and report it as a bug of the decoder; updates often fix it.",
    Reason.DECODER_FAILED: "Find the error in the log by the media id. Keep the file and report it as a bug.",
    Reason.DECODER_KILLED: "Give the host more memory and CPU, or lower `SANDBOX__BUDGET`; then replay.",
    Reason.REMOTE_REFUSED: "To fetch from this server, check `REMOTE__DENY_HOSTS`; otherwise no action is needed.",
    Reason.REMOTE_UNREACHABLE: "No action is needed: the URL is fetched again at the next request.",
    Reason.REMOTE_STATUS: "No action is needed: the remote server decides what it serves.",
    Reason.NOT_CACHEABLE: "No action is needed: the remote server decides who may keep its files.",
    Reason.OWN_URL: "No action is needed: the caller has the media item already, and can use its id.",
    Reason.MALFORMED_TASK: "Report it to the owner of the service that queued it, and drop it.",
    Reason.POISON: "Replay it once. If it fails again, keep the file, drop the task, and report a bug.",
    Reason.UNREADABLE: "Repair the objects in the store, then replay.",
    Reason.EXPIRED: "Find out why it waited so long (if a newer version queued it, upgrade), then replay.",
    Reason.BLOCKED: "No action is needed. If the block was a mistake, unblock it (`avion-media unblock`).",
    Reason.BLOCKED_HOST: "No action is needed. If the block was a mistake, run `avion-media hosts unblock`.",
    Reason.HELD: "Decide in the console's review, or with `avion-media review release` or `review block`.",
    Reason.CANCELLED: "No action is needed. If the task must run after all, replay its dead letter.",
    Reason.INTERNAL: "Find the error in the log by the task id; replay once it is fixed.",
}
"""The advice for operators about each reason, for docs/errors.md and the console."""

SERVICE_FAULTS = frozenset(
    {Reason.INTERNAL, Reason.POISON, Reason.DECODER_KILLED, Reason.UNREADABLE, Reason.EXPIRED, Reason.CANCELLED}
)
"""Failures of the service. The upload is kept, an operator can replay the task, and a later result counts."""
RETRYABLE = SERVICE_FAULTS | {Reason.REMOTE_UNREACHABLE, Reason.MISSING}
"""Failures after which the same client can try again with the same file."""


class Dependency(StrEnum):
    """Dependencies that can be unavailable: `Unavailable.dependency`, and in metrics the reason of a retry."""

    STORE = "store"
    OBJECT = "object"  # one object of the store, while others can be read and written
    REDIS = "redis"
    DELETIONS = "deletions"  # deletion records, while their journal is replayed
    SANDBOX = "sandbox"
    DISK = "disk"  # of this machine: the spool is full, or fails, or no more files can be opened
    CDN = "cdn"
    REMOTE = "remote"  # one server among many
    ENDPOINT = "endpoint"  # one endpoint of webhooks
    UPLOAD = "upload"  # of one media item: replaced while it was read


class MediaError(Exception):
    """Base of all errors that this service raises on purpose."""


class Rejected(MediaError):
    """The file or the remote URL is at fault, so a retry cannot help. `detail` is for operators only."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class Unavailable(MediaError):
    """A dependency is unavailable. The same call may succeed later.

    ``setting`` names the setting to look at, where that does not follow from the dependency.
    """

    def __init__(
        self, dependency: Dependency, detail: str = "", retry_after_s: float = 1.0, *, setting: str = ""
    ) -> None:
        name = {Dependency.STORE: "the object store", Dependency.REDIS: "Redis"}.get(dependency, dependency)
        super().__init__(f"{name} is not available{': ' + detail if detail else ''}")
        self.dependency = dependency
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.setting = setting


class DespiteUnreadable:
    """Ends its block quietly if the store does not return one object while it returns others (`Dependency.OBJECT`)."""

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        return isinstance(error, Unavailable) and error.dependency is Dependency.OBJECT


class Deferred(Unavailable):
    """The task must wait, although nothing failed: all slots of a remote host are taken, or its circuit breaker is
    open.

    The task is retried after ``retry_after_s`` and does not use up an attempt. ``expires``: the task fails after thirty
    times `REMOTE__BREAKER_PAUSE`; otherwise it waits without a limit. ``whole_tenant``: all other tasks of its tenant
    must wait, too.
    """

    def __init__(self, detail: str, retry_after_s: float, *, expires: bool = False, whole_tenant: bool = False) -> None:
        super().__init__(Dependency.REMOTE, detail, retry_after_s)
        self.expires = expires
        self.whole_tenant = whole_tenant


class DecoderKilled(Unavailable):
    """The process that decoded the file did not get its turn: memory ran out, a CPU was not free, or it was killed.

    The file may be the cause. So it uses up an attempt, and cannot be retried forever.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Dependency.SANDBOX, detail)


class DecoderFailed(MediaError):
    """The decoder raised an unexpected error. The text is what it said, which a hijacked decoder chooses.

    The file may be the cause, or this machine. If another attempt failed before, it was the file.
    """


class ObjectMissing(MediaError):
    """No object under that key."""


class PreconditionFailed(MediaError):
    """The condition of a write or read was not met."""


class SourceReplaced(PreconditionFailed):
    """The source of a copy or of further reads was replaced after the first read. The target was not changed."""


class LeaseLost(MediaError):
    """Another worker now owns the task: stop at once, publish nothing, acknowledge nothing."""
