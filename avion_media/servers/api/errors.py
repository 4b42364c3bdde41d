"""Map the errors of the domain to gRPC statuses: one table. Any other error is INTERNAL, with an error id only."""

from __future__ import annotations

from google.rpc.error_details_pb2 import BadRequest as BadRequestDetails
from google.rpc.error_details_pb2 import ErrorInfo

from avion_media.backends.redis import RedisFull
from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.records import UnreadableRecord
from avion_media.items.moderation import HostNotBlocked, NotBlocked
from avion_media.servers.api.media_service import AlreadyDeleted, HostBlocked, HostDenied, NothingUploaded
from avion_media.servers.api.resumable import AlreadyCompleted, MultipartOff, NoSuchUpload, PartsMissing
from avion_media.servers.api.statuses import UnknownMedium
from avion_media.servers.api.validation import BadRequest, TooManyPending
from trio_grpc import Code, RpcError

DOMAIN = "media.avion"
_NAMES = {Dependency.STORE: "object store", Dependency.REDIS: "Redis"}


def map_exception(error: Exception) -> RpcError | None:
    """Return the status for an error of the domain; None for any other error, which is a bug."""
    match error:
        case BadRequest():
            return RpcError(Code.INVALID_ARGUMENT, str(error), [_bad_request(error)])
        case UnknownMedium():
            return RpcError(Code.NOT_FOUND, "media item not found")
        case NothingUploaded():
            text = "no file has been uploaded; PUT it to upload_url, or for an upload in parts send its upload_id"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("NOTHING_UPLOADED")])
        case AlreadyDeleted():
            return RpcError(Code.FAILED_PRECONDITION, "this media item was deleted", [_info("DELETED")])
        case AlreadyCompleted():
            text = "the upload was completed; delete the media item instead"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("COMPLETED")])
        case NoSuchUpload():
            return RpcError(Code.NOT_FOUND, "upload not found: it was completed or aborted, or it has expired")
        case PartsMissing():
            numbers = ",".join(map(str, error.numbers))
            return RpcError(Code.FAILED_PRECONDITION, str(error), [_info("PARTS_MISSING", numbers=numbers)])
        case MultipartOff():
            text = f"uploads in parts are off: {error}"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("MULTIPART_OFF")])
        case NotBlocked():
            return RpcError(Code.FAILED_PRECONDITION, "the media item is not blocked", [_info("NOT_BLOCKED")])
        case HostDenied():
            return RpcError(Code.PERMISSION_DENIED, "fetching from this host is not allowed", [_info("HOST_DENIED")])
        case HostBlocked():
            return RpcError(Code.PERMISSION_DENIED, "moderators have blocked this host", [_info("HOST_BLOCKED")])
        case HostNotBlocked():
            text = "the host is not blocked, or only by the settings"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("HOST_NOT_BLOCKED")])
        case UnreadableRecord():
            text = "this replica runs a version that cannot read a record of this media item; retry at a newer one"
            return RpcError(Code.UNAVAILABLE, text, [_info("UNREADABLE_RECORD")], retry_after_s=error.retry_after_s)
        case RedisFull():
            text = "Redis is full, so new work is refused; retry after the delay in RetryInfo"
            return RpcError(Code.UNAVAILABLE, text, [_info("REDIS_FULL")], retry_after_s=error.retry_after_s)
        case Unavailable():
            name = _NAMES.get(error.dependency, error.dependency)
            text = f"{name} is temporarily unavailable; retry after the delay in RetryInfo"
            return RpcError(Code.UNAVAILABLE, text, retry_after_s=error.retry_after_s)
        case TooManyPending():
            return RpcError(Code.RESOURCE_EXHAUSTED, str(error), retry_after_s=1.0)
    return None


def _bad_request(error: BadRequest) -> BadRequestDetails:
    details = BadRequestDetails()
    for violation in error.violations:
        added = details.field_violations.add(
            field=violation.field, description=violation.description, reason=violation.reason
        )
        if violation.sentence:
            added.localized_message.locale, added.localized_message.message = "en", violation.sentence
    return details


def _info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
