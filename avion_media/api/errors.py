"""What each error of the domain tells a gRPC client: one table. What it lacks is INTERNAL, with an error id only."""

from __future__ import annotations

from google.rpc.error_details_pb2 import BadRequest as BadRequestDetails
from google.rpc.error_details_pb2 import ErrorInfo

from avion_media.api.media_service import AlreadyCompleted, AlreadyDeleted, HostDenied, NothingUploaded
from avion_media.api.resumable import MultipartOff, NoSuchUpload, PartsMissing
from avion_media.api.statuses import UnknownMedium
from avion_media.api.validation import BadRequest
from avion_media.domain.errors import Overloaded, Unavailable
from avion_media.grpc import Code, RpcError

DOMAIN = "media.avion"


def map_exception(error: Exception) -> RpcError | None:
    """The status for an error of ours; None for a defect."""
    match error:
        case BadRequest():
            return RpcError(Code.INVALID_ARGUMENT, str(error), [_bad_request(error)])
        case UnknownMedium():
            return RpcError(Code.NOT_FOUND, "no such medium")
        case NothingUploaded():
            return RpcError(Code.FAILED_PRECONDITION, "nothing was uploaded yet", [_info("NOTHING_UPLOADED")])
        case AlreadyDeleted():
            return RpcError(Code.FAILED_PRECONDITION, "the medium was deleted", [_info("DELETED")])
        case AlreadyCompleted():
            text = "the upload was completed: delete the medium instead"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("COMPLETED")])
        case NoSuchUpload():
            return RpcError(Code.NOT_FOUND, "no such upload: it was completed or aborted, or it has expired")
        case PartsMissing():
            numbers = ",".join(map(str, error.numbers))
            return RpcError(Code.FAILED_PRECONDITION, str(error), [_info("PARTS_MISSING", numbers=numbers)])
        case MultipartOff():
            text = f"uploads in parts are off: {error}"
            return RpcError(Code.FAILED_PRECONDITION, text, [_info("MULTIPART_OFF")])
        case HostDenied():
            return RpcError(Code.PERMISSION_DENIED, "this host is not fetched from", [_info("HOST_DENIED")])
        case Unavailable():
            text = f"the {error.what} is not available, try again soon"
            return RpcError(Code.UNAVAILABLE, text, retry_after_s=error.retry_after_s)
        case Overloaded():
            return RpcError(Code.RESOURCE_EXHAUSTED, "too much at once, slow down", retry_after_s=1.0)
    return None


def _bad_request(error: BadRequest) -> BadRequestDetails:
    details = BadRequestDetails()
    for violation in error.violations:
        details.field_violations.add(field=violation.field, description=violation.description, reason=violation.reason)
    return details


def _info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
