"""Every metric of the service. Names and attributes are those of OpenTelemetry, or begin with ``avion``.

``docs/telemetry.md`` is generated from this file. Alerts and dashboards use these names: the list may grow, but names
stay.
"""

from __future__ import annotations

from avion_media.common.telemetry import attributes as a
from trio_telemetry import NONE, SPAN_OUTCOME, Instrument

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_BLOCKS = (1.0, 5.0, 30.0, 60.0, 600.0, *(3600.0 * hours for hours in (1, 6, 12, 24, 36, 48, 96)))
_MEMORY = tuple(float(mebibytes << 20) for mebibytes in (16, 32, 64, 128, 256, 512, 1024, 2048))

# -- gRPC
RPC_DURATION = Instrument(
    "rpc.server.call.duration",
    "histogram",
    "s",
    "gRPC calls, from the request's headers to the response",
    (a.GRPC, a.RPC_SERVER_METHOD, a.RPC_CODE, a.RPC_ERROR),
    _FAST,
    exemplars=True,
)

# -- HTTP
HTTP_DURATION = Instrument(
    "http.server.request.duration",
    "histogram",
    "s",
    "origin requests, until the headers of the response are known",
    (a.HTTP_ROUTE, a.HTTP_METHOD, a.HTTP_STATUS, a.SCHEME, a.HTTP_ERROR),
    _FAST,
    exemplars=True,
)
HTTP_ACTIVE = Instrument(
    "http.server.active_requests", "updown", "{request}", "origin requests whose response has not ended", (a.SCHEME,)
)
ORIGIN_SENT = Instrument("avion.origin.sent", "counter", "By", "bytes of bodies sent by the origin", (a.HTTP_ROUTE,))

# -- the object store and Redis
S3_DURATION = Instrument(
    "rpc.client.call.duration",
    "histogram",
    "s",
    "calls of the object store, the transfer of files included; of streamed bodies until their headers",
    (a.AWS_API, a.S3_METHOD, a.STORE_ERROR),
    _FAST,
)
DEPENDENCY_UP = Instrument(
    "avion.dependency.up", "gauge", "1", "1 while the last call got a response, else 0", (a.DEPENDENCY,)
)

# -- queues, polled every few seconds; every replica reports the same values, so take the maximum
QUEUE_LAG = Instrument("avion.queue.lag", "gauge", "{task}", "tasks that no consumer has taken yet", (a.WAITED_IN,))
QUEUE_PENDING = Instrument("avion.queue.pending", "gauge", "{task}", "tasks leased by consumers", (a.WAITED_IN,))
QUEUE_OLDEST = Instrument(
    "avion.queue.oldest.age",
    "gauge",
    "s",
    "age of the oldest task that waits or is in progress; 0 when there is none",
    (a.WAITED_IN,),
)
QUEUE_DELAYED = Instrument("avion.queue.delayed", "gauge", "{task}", "tasks that are due later", (a.WAITED_IN,))
QUEUE_DEAD = Instrument("avion.queue.dead_letters", "gauge", "{task}", "dead letters", (a.WAITED_IN,))
QUEUE_PAUSED = Instrument(
    "avion.queue.paused", "gauge", "1", "1 while an operator has paused the queue, else 0", (a.WAITED_IN,)
)

# -- tasks
TASK_DURATION = Instrument(
    "messaging.process.duration",
    "histogram",
    "s",
    "attempts at a task, from its delivery to its end",
    (a.MESSAGING_SYSTEM, a.PROCESS, a.GROUP, a.DESTINATION, a.TASK_OUTCOME, a.TASK_ERROR),
    _SLOW,
    exemplars=True,
)
TASK_OUTCOMES = Instrument(
    "avion.task.outcomes",
    "counter",
    "{attempt}",
    "attempts at a task, by how they ended",
    (a.DESTINATION, a.TASK_OUTCOME, a.TASK_REASON),
    first=tuple((queue, *end) for queue in a.DESTINATION.values for end in a.USUAL_ENDS),
)
TASK_COMPLETION = Instrument(
    "avion.task.completion.duration",
    "histogram",
    "s",
    "tasks from when they were first queued to their end, retries included",
    (a.DESTINATION, a.TASK_OUTCOME),
    (*_SLOW, 3600.0, 86400.0),
    exemplars=True,
)
QUEUE_OPERATIONS = Instrument(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    "operations of this process on the queues; of `receive`, those that returned a task, its wait for one included",
    (a.MESSAGING_SYSTEM, a.OPERATION, a.OPERATION_TYPE, a.GROUP_OF_RECEIVER, a.DESTINATION, a.OPERATION_ERROR),
    _FAST,
)
TASKS_SENT = Instrument(
    "messaging.client.sent.messages",
    "counter",
    "{message}",
    "tasks queued by this process",
    (a.MESSAGING_SYSTEM, a.SEND, a.DESTINATION),
)

# -- media
THUMBNAILS = Instrument(
    "avion.thumbnails", "counter", "{thumbnail}", "thumbnails, by format", (a.FORMAT, a.THUMBNAIL_OUTCOME)
)
REMOTE_FETCHES = Instrument(
    "avion.remote.fetches",
    "counter",
    "{fetch}",
    "fetches of remote media",
    (a.FORMAT, a.FETCH_OUTCOME, a.FETCHED_KIND),
    first=tuple((NONE, outcome, a.FETCHED_KIND.values[0]) for outcome in a.FETCH_OUTCOME.values),
)
SANDBOX_DURATION = Instrument(
    "avion.sandbox.duration", "histogram", "s", "sandboxed processes, from fork to exit", (a.JOB, a.JOB_OUTCOME), _FAST
)
SANDBOX_CPU = Instrument(
    "avion.sandbox.cpu.time", "histogram", "s", "CPU time of sandboxed processes", (a.JOB, a.JOB_OUTCOME), _FAST
)
SANDBOX_PEAK = Instrument(
    "avion.sandbox.memory.peak", "histogram", "By", "greatest resident memory of sandboxed processes", (a.JOB,), _MEMORY
)
SANDBOX_RESERVED = Instrument(
    "avion.sandbox.memory.reserved", "gauge", "By", "sum of the memory limits of the running sandboxed processes"
)
SANDBOX_BUDGET = Instrument("avion.sandbox.memory.budget", "gauge", "By", "limit of the reserved memory")

# -- deletions, the CDN, the sweep
DELETIONS = Instrument("avion.deletions", "counter", "{item}", "media items marked as deleted by drop_deleted events")
DELETIONS_MALFORMED = Instrument(
    "avion.deletions.malformed", "counter", "{event}", "drop_deleted events that could not be read"
)
DELETIONS_DROPPED = Instrument(
    "avion.deletions.dropped", "counter", "{event}", "events of the channel dropped because the backlog was full"
)
DELETIONS_DISCONNECTED = Instrument(
    "avion.deletions.disconnected", "counter", "s", "time without a subscription to the channel; the stream has no gap"
)
PURGES = Instrument("avion.purge.requests", "counter", "{request}", "purge requests to the CDN", (a.PURGE_OUTCOME,))
WEBHOOKS = Instrument(
    "avion.webhook.events", "counter", "{event}", "events for endpoints of webhooks", (a.ENDPOINT, a.WEBHOOK_OUTCOME)
)
ENDPOINTS_VALID = Instrument(
    "avion.webhook.endpoints.valid",
    "gauge",
    "1",
    "0 while the last version of WEBHOOKS__ENDPOINTS_FILE has an error, and the one before is in force; otherwise 1",
)
SWEEP_PASSES = Instrument("avion.sweep.passes", "counter", "{pass}", "sweeps", (a.PASS_OUTCOME,))
SWEEP_DURATION = Instrument("avion.sweep.duration", "histogram", "s", "sweeps", (a.PASS_OUTCOME,), (*_SLOW, 3600.0))
SWEEP_MEDIA = Instrument(
    "avion.sweep.media", "counter", "{item}", "media items that a sweep acted on", (a.SWEEP_REASON,)
)
EVENTS_HEADROOM = Instrument(
    "avion.events.headroom",
    "gauge",
    "{event}",
    "events that can follow before the slowest consumer group of media_events misses one; negative: it has missed some",
)
REDIS_MEMORY = Instrument(
    "avion.redis.memory.utilization", "gauge", "1", "share of maxmemory that the fullest server uses; 0 without a limit"
)
SWEEP_FINISHED = Instrument(
    "avion.sweep.finished.time",
    "gauge",
    "s",
    "when the last sweep of any replica ended, Unix seconds; 0 before the first",
)

STORE_SIZE = Instrument(
    "avion.store.size",
    "gauge",
    "By",
    "bytes of the objects in the bucket when the last whole sweep saw them; 0 before the first",
    (a.STORED_KIND,),
)
STORE_OBJECTS = Instrument(
    "avion.store.objects",
    "gauge",
    "{object}",
    "objects in the bucket when the last whole sweep saw them; 0 before the first",
    (a.STORED_KIND,),
)

RECORDS_UNREADABLE = Instrument(
    "avion.records.unreadable",
    "total",
    "{record}",
    "stored records that this process could not read; each counts once",
    (a.RECORD_KIND,),
)

# -- moderation
REVIEW_WAITING = Instrument("avion.review.waiting", "gauge", "{item}", "media items that wait for a moderator")
REVIEW_OLDEST = Instrument("avion.review.oldest_age", "gauge", "s", "how long the first of them has waited; 0 for none")
NOTICES = Instrument("avion.review.notices", "gauge", "{notice}", "notices about which nobody has decided")
NOTICE_TIME_LEFT = Instrument(
    "avion.review.time_left",
    "gauge",
    "s",
    "time left of 48 h for the most urgent notice, negative after it; 48 h without a notice",
)
TIME_TO_BLOCK = Instrument(
    "avion.moderation.time_to_block",
    "histogram",
    "s",
    "blocks by people and callers: from the notice, or without one from the call, until the origins answer 451",
    (a.BLOCK_START,),
    _BLOCKS,
)
HOOK_REQUESTS = Instrument(
    "avion.hook.requests",
    "counter",
    "{request}",
    "media items that needed a decision of the hook",
    (a.HOOK_OUTCOME,),
)

# -- limits
LIMITER_USED = Instrument("avion.limiter.used", "gauge", "{slot}", "slots in use", (a.LIMITER,))
LIMITER_LIMIT = Instrument("avion.limiter.limit", "gauge", "{slot}", "size of the limiter", (a.LIMITER,))
LIMITER_WAITING = Instrument(
    "avion.limiter.waiting", "gauge", "{task}", "tasks and calls waiting for a slot", (a.LIMITER,)
)
LIMITER_WAIT = Instrument(
    "avion.limiter.wait.duration",
    "histogram",
    "s",
    "waits for a slot, including those of zero length",
    (a.WAITED_LIMITER,),
    _FAST,
)

# -- the audit log
AUDIT_FAILURES = Instrument(
    "avion.audit.failures", "counter", "{write}", "writes of the audit log that the bucket did not take"
)
AUDIT_LOST = Instrument(
    "avion.audit.lost", "counter", "{target}", "targets of calls that the audit log had no room for"
)
AUDIT_UNWRITTEN = Instrument(
    "avion.audit.unwritten.age", "gauge", "s", "time since the bucket takes no audit records; 0 while it does"
)

# -- the process
RESTARTS = Instrument(
    "avion.supervision.restarts", "counter", "{restart}", "restarts of a node of the tree", (a.NODE_PATH,)
)
ESCALATIONS = Instrument(
    "avion.supervision.escalations", "counter", "{escalation}", "supervisors that gave up", (a.NODE_PATH,)
)
UNCLEAN_ENDS = Instrument(
    "avion.supervision.unclean_ends",
    "counter",
    "{end}",
    "nodes that raised an error while they stopped, were cancelled because they were late, or run on after a cancel",
    (a.NODE_PATH, a.UNCLEAN_END),
)
NODE_UP = Instrument("avion.supervision.node.up", "gauge", "1", "1 while the node runs, else 0", (a.NODE_PATH,))
PHASE = Instrument(
    "avion.phase", "gauge", "1", "1 for the present phase of the process, 0 for the others", (a.PHASE_NAME,)
)
READY = Instrument("avion.ready", "gauge", "1", "1 while /readyz returns 200, else 0")
DRAIN_ELAPSED = Instrument("avion.drain.elapsed", "gauge", "s", "time since the signal to stop; 0 before")
DRAIN_BUDGET = Instrument("avion.drain.budget", "gauge", "s", "limit of each part of a shutdown", (a.DRAIN_PART,))
LOOP_LAG = Instrument("avion.event_loop.lag", "histogram", "s", "how late the event loop runs what is due", (), _FAST)
LOOP_TASKS = Instrument("avion.event_loop.tasks", "gauge", "{task}", "live Trio tasks")
TELEMETRY_SPANS = Instrument(
    "avion.telemetry.spans", "total", "{span}", "spans handed to the OTLP exporter", (SPAN_OUTCOME,)
)
PROCESS_CPU = Instrument(
    "process.cpu.time", "total", "s", "CPU time of this process, without sandboxed processes", (a.CPU_MODE,)
)
PROCESS_MEMORY = Instrument(
    "process.memory.usage", "updown", "By", "resident memory of this process, without sandboxed processes"
)
PROCESS_FDS = Instrument("avion.process.file_descriptors", "updown", "{file_descriptor}", "open descriptors")

INSTRUMENTS: tuple[Instrument, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Instrument)
)
