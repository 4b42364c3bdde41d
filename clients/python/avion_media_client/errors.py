"""The errors of the client. Those of calls have what `docs/errors.md` of the service names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status


class MediaError(Exception):
    """A call failed.

    ``code``: the gRPC status. ``reason``: a stable code, such as NOTHING_UPLOADED; empty if there is none. ``fields``:
    for each field that is not valid, its reason. ``sentence``: for the person who uploads; empty if neither the file
    nor what became of it is the cause. ``retry_after_s``: how long to wait at least before another attempt; None if
    another attempt makes no sense.
    ``media_id``: the upload whose bytes are all in the store; only `MediaClient.complete` is left to do. Else empty.
    """

    usual_sentence: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        sentence: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fields = dict(fields or {})
        self.sentence = sentence or self.usual_sentence
        self.retry_after_s = retry_after_s
        self.media_id = ""


class InvalidRequest(MediaError):
    """Fields of the request are not valid."""


class NotFound(MediaError):
    """There is no such media item, or no such upload any more."""

    usual_sentence = "This file is not there any more."


class NotAllowed(MediaError):
    """The token is missing or not valid, or its caller is not allowed to do this."""


class Conflict(MediaError):
    """The media item is not in a state for this: nothing is uploaded, parts are missing, or it is deleted."""


class TooMany(MediaError):
    """Too many unfinished uploads or calls. Wait, and try again."""


class Unavailable(MediaError):
    """The service or what it needs is unavailable, or did not answer in time. Wait, and try again."""


class StoreRefused(MediaError):
    """The object store did not take the bytes. ``is_final``: another attempt with the same URL makes no sense."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class FileChanged(MediaError):
    """The file has another size than the one with which the upload was begun, so it cannot go on. Nothing was sent."""

    usual_sentence = "The file has changed. Please upload it again."


class MediaDeleted(MediaError):
    """The media item was deleted while it was waited for."""

    usual_sentence = "This file was deleted."


class MediaFailed(MediaError):
    """The file cannot be published. ``reason`` says why; the message is the ``sentence``.

    ``retryable``: the same file may be accepted at another time.
    """

    def __init__(self, message: str, *, reason: str, retryable: bool) -> None:
        super().__init__(message, reason=reason, sentence=message)
        self.retryable = retryable


_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooMany,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
}


def error_of(failed: grpc.RpcError, method: str) -> MediaError:
    """Return what a failed call of a method means. Its message begins with the method."""
    assert isinstance(failed, grpc.Call)
    code = failed.code()
    kind = _CODES.get(code, MediaError)
    retry_after_s = 1.0 if kind in (TooMany, Unavailable) else None
    reason, fields, sentence = "", {}, ""
    status = rpc_status.from_call(failed)
    for detail in () if status is None else status.details:
        bad, info, retry = BadRequest(), ErrorInfo(), RetryInfo()
        if detail.Unpack(bad):
            fields = {each.field: each.reason for each in bad.field_violations}
            sentence = " ".join(filter(None, (each.localized_message.message for each in bad.field_violations)))
        elif detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    message = f"{method}: {failed.details() or code.name}"
    return kind(message, code=code, reason=reason, fields=fields, sentence=sentence, retry_after_s=retry_after_s)
