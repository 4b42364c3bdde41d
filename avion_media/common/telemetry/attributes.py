"""The attributes of metrics and their values, all of which are known in advance: see `trio_telemetry.instruments`."""

from __future__ import annotations

from avion_media.common.errors import Dependency, Reason
from avion_media.common.formats import FORMATS
from avion_media.common.media import ATTACHMENT, REMOTE_KINDS
from avion_media.common.tasks import CONSUMER_GROUP, DROP_DELETED, QUEUES
from trio_telemetry import NONE, OTHER, Attribute


def _numbers(*ranges: range) -> tuple[str, ...]:
    return tuple(str(number) for each in ranges for number in each)


_CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
    "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
    "UNAUTHENTICATED"
)
# What a server is to blame for (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).
RPC_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
_S3_OPERATIONS = (
    "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload DeleteObject "
    "DeleteObjects GetBucketCors GetBucketLifecycleConfiguration GetObject HeadBucket HeadObject ListObjectsV2 "
    "ListMultipartUploads ListParts PutBucketCors PutBucketLifecycleConfiguration PutObject "
    "PutPublicAccessBlock UploadPart UploadPartCopy"
)
_REASONS = tuple(str(reason) for reason in Reason)
_FORMATS = tuple(each.name for each in FORMATS)

GRPC = Attribute("rpc.system.name", ("grpc",))
AWS_API = Attribute("rpc.system.name", ("aws-api",))
RPC_SERVER_METHOD = Attribute("rpc.method", meaning="`package.Service/Method` of the methods served; `_OTHER`")
RPC_CODE = Attribute("rpc.response.status_code", tuple(_CODES.split()))
RPC_ERROR = Attribute("error.type", (NONE, *RPC_FAULTS))
S3_METHOD = Attribute("rpc.method", tuple(f"S3/{operation}" for operation in _S3_OPERATIONS.split()))
STORE_ERROR = Attribute(
    "error.type", (NONE, "missing", "precondition", "range", "too_large", "unavailable", "refused", "cancelled")
)
HTTP_ROUTE = Attribute(
    "http.route",
    (
        *("/media/{id}", "/media/{id}/credentials", "/thumbnail/{size}/{id}"),
        *("/media/{id}/{token}", "/media/{id}/{token}/credentials", "/thumbnail/{size}/{id}/{token}"),
        *("/capabilities", OTHER),
    ),
)
HTTP_METHOD = Attribute("http.request.method", ("GET", "HEAD", OTHER))
HTTP_STATUS = Attribute("http.response.status_code", _numbers(range(200, 210), range(300, 309), range(400, 600)))
HTTP_ERROR = Attribute("error.type", (NONE, *_numbers(range(500, 505))))
SCHEME = Attribute("url.scheme", ("http",))
MESSAGING_SYSTEM = Attribute("messaging.system", ("redis",))
SEND = Attribute("messaging.operation.name", ("send",))
PROCESS = Attribute("messaging.operation.name", ("process",))
_OPERATIONS = ("send", "receive", "settle")
OPERATION = Attribute("messaging.operation.name", _OPERATIONS)
OPERATION_TYPE = Attribute("messaging.operation.type", _OPERATIONS)
OPERATION_ERROR = Attribute("error.type", (NONE, "unavailable", "full", "lease_lost", "cancelled"))
GROUP = Attribute("messaging.consumer.group.name", (CONSUMER_GROUP,))
GROUP_OF_RECEIVER = Attribute("messaging.consumer.group.name", (NONE, CONSUMER_GROUP), "empty for `send`")
DESTINATION = Attribute("messaging.destination.name", tuple(QUEUES))
WAITED_IN = Attribute("messaging.destination.name", (*QUEUES, DROP_DELETED))
_TASK_OUTCOMES = ("done", "rejected", "retried", "deferred", "dead_letter", "cancelled", "lease_lost")
TASK_OUTCOME = Attribute("outcome", _TASK_OUTCOMES, "how an attempt ended")
FAILED_OUTCOMES = ("retried", "deferred", "dead_letter", "lease_lost")
"""Those that are failures to OpenTelemetry: the same as ``outcome``, for tools that know only its names."""
TASK_ERROR = Attribute("error.type", (NONE, *FAILED_OUTCOMES))
TASK_REASON = Attribute(
    "reason",
    (NONE, *_REASONS, *(str(each) for each in Dependency)),
    "the code of a rejection, or what was unavailable",
)
USUAL_ENDS = (
    ("done", NONE),
    ("rejected", str(Reason.CORRUPT)),
    ("retried", str(Dependency.STORE)),
    ("retried", str(Dependency.REDIS)),
    ("retried", str(Dependency.SANDBOX)),
    ("retried", str(Reason.INTERNAL)),
    ("dead_letter", str(Reason.INTERNAL)),
    ("dead_letter", str(Reason.POISON)),
)
"""Outcomes with reasons that alerts are written on."""
FORMAT = Attribute("format", (NONE, *_FORMATS), "by content; empty while unknown")
THUMBNAIL_OUTCOME = Attribute("outcome", ("written", "rejected", "failed"))
FETCH_OUTCOME = Attribute("outcome", ("ok", "not_modified", *_REASONS, "unavailable", "deferred", "failed"))
FETCHED_KIND = Attribute("kind", (ATTACHMENT, *REMOTE_KINDS), "the kind of the remote file")
JOB = Attribute("avion.sandbox.job", ("picture_job", "plan_job", "poster_job", "sound_job", "probe", OTHER))
JOB_OUTCOME = Attribute(
    "outcome",
    ("done", "rejected", "limit", "crashed", "killed", "failed"),
    "`limit`, `crashed` and `killed` end the process: a limit, the content, or memory or somebody outside",
)
LIMITER = Attribute(
    "limiter",
    meaning="the limiter, such as `rpc.calls`, `store.calls`, `store.visitors`, `sandbox.slots`, `tasks.cache`",
)
WAITED_LIMITER = Attribute("limiter", ("store.calls", "sandbox.slots"))
NODE_PATH = Attribute(
    "path", meaning="the node's path in the tree, such as `service/processing/reader`; `/` is the root"
)
UNCLEAN_END = Attribute("end", ("error", "late", "stuck"))
RECORD_KIND = Attribute("kind", meaning="the kind of record, as in [Records](reference/records.md)")
PHASE_NAME = Attribute("phase", ("STARTING", "READY", "LAME_DUCK", "DRAINING", "STOPPING", "DONE"))
DRAIN_PART = Attribute("part", ("settle", "grace", "stop", "flush", "margin"))
DEPENDENCY = Attribute("dependency", (str(Dependency.REDIS), str(Dependency.STORE)))
CPU_MODE = Attribute("cpu.mode", ("user", "system"))
PASS_OUTCOME = Attribute("outcome", ("done", "refused", "interrupted", "failed"))
_SWEEP_REASONS = (
    "lost_task abandoned leftover orphan expired over_budget overdue_deletion unfinished disowned unindexed evidence"
)
SWEEP_REASON = Attribute("reason", tuple(_SWEEP_REASONS.split()))
STORED_KIND = Attribute(
    "kind", ("incoming", "image", "video", "audio", "thumbnail", "remote", "remote_thumbnail", "credentials")
)
BLOCK_START = Attribute("start", ("notice", "call"), "from when the time is measured")
HOOK_OUTCOME = Attribute("outcome", ("publish", "hold", "refuse", "failed", "paused"))
PURGE_OUTCOME = Attribute("outcome", ("ok", "refused", "unreachable"))
ENDPOINT = Attribute("webhook", meaning="the name of an endpoint in `WEBHOOKS__ENDPOINTS_FILE`")
_DROPPED = ("dropped_stopped", "dropped_overflow", "dropped_removed", "dropped_private")
WEBHOOK_OUTCOME = Attribute(
    "outcome",
    ("delivered", "failed", "gone", *_DROPPED),
    "`failed`: an attempt; `gone`: the endpoint answered 410; the others: the event was not sent",
)
