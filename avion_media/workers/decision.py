"""How an attempt ends: one decision for each way, without I/O. `Consumer` carries it out.

=====================  ===============================================================================================
returns                the lease is completed
`Rejected`             the file or URL is at fault: `TaskHandler.record_failure` records it, then the lease is
                       completed; a task that cannot be read becomes a dead letter
`Unavailable`          a dependency is unavailable: the task is retried later, and uses up an attempt only if the
                       dependency is a remote server. If tasks share the dependency, the consumer also pauses, longer
                       each time, until a task succeeds
… of an endpoint       of webhooks: retried with backoff until the task is too old; then a dead letter
… of one object        retried later, and other tasks go on. The wait doubles up to an hour; after six hours attempts
                       are used up; then a dead letter
`OSError` of the disk  (or no file can be opened) retried as for an unavailable dependency, for an hour; then it uses
                       up attempts
`DecoderKilled`        the decoder was killed from outside, perhaps because of the file: retried with backoff, then a
                       dead letter
`DecoderFailed`        the decoder raised an unexpected error: retried once, in case this machine was the cause. If an
                       attempt failed before, the file is at fault, as for `Rejected` (``decoder_failed``)
`UnknownFormat`        a newer version queued it: to the delayed set until a worker of that version takes it. No attempt
                       is used up. After ``max_age_s``, a dead letter (``expired``), also of a deletion
`Deferred`             its turn has not come (limits per remote host): back to the backlog, where its whole tenant
                       waits; if another server sent it to that host, to the delayed set. No attempt is used up
`LeaseLost`            another worker owns the task: stop, change nothing. An attempt that has already ensured its lease
                       runs to its end, because it may have written; at its end it removes what must not stay
anything else          a bug: retried with backoff, after ``max_attempts`` a dead letter
=====================  ===============================================================================================

Three tasks end without an attempt (`refuse`), as dead letters: those that an operator has cancelled, poison, and those
older than the limit (``expired``). A drain cancels attempts: their leases are released, and no attempt is used up.
"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from enum import StrEnum

from avion_media.backends.queue import Lease
from avion_media.common.errors import (
    DecoderFailed,
    DecoderKilled,
    Deferred,
    Dependency,
    LeaseLost,
    Reason,
    Rejected,
    Unavailable,
)
from avion_media.common.ids import UnknownFormat

# That these are unavailable says nothing of the next task.
_TASK_LOCAL = frozenset({Dependency.REMOTE, Dependency.ENDPOINT, Dependency.UPLOAD, Dependency.OBJECT})
_OBJECT_OUTAGE_LIMIT_S = 6 * 3600.0  # an operator who is called at night repairs a store within this time
_LONGEST_OBJECT_WAIT_S = 3600.0
# Between two looks of a task whether a server that it was sent to has a free slot, or a worker knows its format.
_LONGEST_TURN_S = 120.0
_DISK_FULL_LIMIT_S = 3600.0  # for a full disk to be emptied; after that it costs attempts
_DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class ConsumerPolicy:
    """Limits of one consumer. Times in seconds. ``max_deferral_s``: maximum age of a task that waits for a paused
    remote server. ``max_age_s``: maximum age of any task. ``gives_up`` is false for deletions, which neither their age
    nor an unavailable object ends. ``tenant_cap``: maximum tasks of one tenant at once, in all replicas; 0: unlimited.
    """

    slots: int
    max_attempts: int
    claim_after_s: float
    backoff_s: float
    max_backoff_s: float
    max_deferral_s: float = math.inf
    max_age_s: float = math.inf
    gives_up: bool = True
    tenant_cap: int = 0


class End(StrEnum):
    """What becomes of a task, in the words of metrics and logs, which also know an attempt that was cancelled."""

    DONE = "done"
    REJECTED = "rejected"
    DEAD_LETTER = "dead_letter"
    RETRIED = "retried"
    DEFERRED = "deferred"
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class Decision:
    """The end of one attempt.

    ``reason`` is a `Reason`, or the dependency that is unavailable. A task that comes again waits for a random time of
    ``delay_s``, which has the shortest and the longest; ``count``: the attempt is used up; ``whole_tenant``: all tasks
    of its tenant wait. ``unavailable_since``: see `Lease`. ``is_file_suspect``: see `TaskHandler.record_failure`.
    ``is_bug``: a human must look at the error.
    """

    end: End
    reason: str = ""
    detail: str = ""
    delay_s: tuple[float, float] = (0.0, 0.0)
    count: bool = False
    whole_tenant: bool = False
    unavailable_since: float = 0.0
    is_file_suspect: bool = False
    is_bug: bool = False


def refuse(lease: Lease, policy: ConsumerPolicy, now: float, max_deaths: int) -> Decision | None:
    """Return the end of a task that gets no attempt; None if it gets one."""
    if lease.cancelled_by:
        return cancelled(lease)
    if lease.deaths >= max_deaths:
        return _dead_letter(lease, Reason.POISON, f"{lease.deaths} workers crashed with it")
    if policy.gives_up and now - lease.age_since > policy.max_age_s:
        return _dead_letter(lease, Reason.EXPIRED, f"older than {policy.max_age_s / 3600:g} h")
    return None


def cancelled(lease: Lease) -> Decision:
    """Return the end of a task that an operator has cancelled."""
    return _dead_letter(lease, Reason.CANCELLED, f"by {lease.cancelled_by.rpartition('@')[0] or lease.cancelled_by}")


def pauses_consumer(error: Exception | None) -> bool:
    """Return whether other tasks need what was unavailable as well."""
    if isinstance(error, Deferred | DecoderKilled):
        return False
    return _is_disk_trouble(error) or (isinstance(error, Unavailable) and error.dependency not in _TASK_LOCAL)


def decide(error: Exception | None, lease: Lease, policy: ConsumerPolicy, now: float, pause_s: float = 0.0) -> Decision:
    """Return how an attempt ends. ``now`` is in Unix seconds, ``pause_s`` the present pause of the consumer."""
    match error:
        case None:
            return Decision(End.DONE)
        case LeaseLost():
            return Decision(End.LEASE_LOST)
        case Rejected():
            return Decision(End.REJECTED, error.reason, error.detail)
        case UnknownFormat():
            return _after_unknown_format(lease, policy, now, str(error))
        case Deferred():
            return _after_deferral(lease, policy, now, error)
        case DecoderKilled():
            return _use_up(lease, policy, Reason.DECODER_KILLED, str(error))
        case DecoderFailed():
            return _after_failed_decoder(lease, policy, str(error))
        case Unavailable(dependency=Dependency.OBJECT):
            return _after_object_failure(lease, policy, now, error)
        case Unavailable(dependency=Dependency.REMOTE):
            return _after_remote_failure(lease, policy, now, error)
        case Unavailable(dependency=Dependency.ENDPOINT):
            return _after_endpoint_failure(lease, policy, now, error)
        case Unavailable():
            return _after_outage(lease, policy, now, error, pause_s)
        case OSError() if _is_disk_trouble(error):
            return _after_outage(lease, policy, now, Unavailable(Dependency.DISK, str(error)), pause_s)
    return after_bug(error, lease, policy)


def after_bug(error: Exception, lease: Lease, policy: ConsumerPolicy) -> Decision:
    """Return the end of an attempt that this service failed."""
    return _use_up(lease, policy, Reason.INTERNAL, repr(error), is_bug=True)


def _after_unknown_format(lease: Lease, policy: ConsumerPolicy, now: float, detail: str) -> Decision:
    """Leave a task to a worker of a newer version. It may be invented, so it does not wait without a limit."""
    since = lease.unavailable_since or now
    if now - since > policy.max_age_s:
        return _dead_letter(lease, Reason.EXPIRED, detail)
    delay_s = max(policy.backoff_s, min(_LONGEST_TURN_S, (now - since) / 4))
    return Decision(End.DEFERRED, Reason.UNKNOWN_TYPE, detail, (delay_s, 1.2 * delay_s), unavailable_since=since)


def _after_failed_decoder(lease: Lease, policy: ConsumerPolicy, detail: str) -> Decision:
    """Give the file a second process, perhaps on another machine. A crash of a worker says nothing about a decoder."""
    if lease.failures or lease.attempt >= policy.max_attempts:
        return Decision(End.REJECTED, Reason.DECODER_FAILED, detail)
    return Decision(End.RETRIED, Reason.DECODER_FAILED, detail, _backoff_s(lease, policy), count=True)


def _after_deferral(lease: Lease, policy: ConsumerPolicy, now: float, error: Deferred) -> Decision:
    if error.expires and _is_too_late(lease, policy, now, error.retry_after_s):
        return Decision(End.REJECTED, Reason.REMOTE_UNREACHABLE, error.detail)
    delay_s = error.retry_after_s, error.retry_after_s
    if not error.whole_tenant:  # it was redirected to a busy server, and waits on its own, longer the older it is
        waits_s = max(error.retry_after_s, min(_LONGEST_TURN_S, (now - lease.first_seen) / 4))
        delay_s = waits_s, 1.2 * waits_s
    return Decision(End.DEFERRED, Dependency.REMOTE, error.detail, delay_s, whole_tenant=error.whole_tenant)


def _after_object_failure(lease: Lease, policy: ConsumerPolicy, now: float, error: Unavailable) -> Decision:
    """Retry a task whose object alone is unavailable: it waits longer each time, without delaying other tasks."""
    since = lease.unavailable_since or now
    is_free = now - since < _OBJECT_OUTAGE_LIMIT_S or not policy.gives_up
    if not is_free and lease.attempt >= policy.max_attempts:
        return _dead_letter(lease, Reason.UNREADABLE, error.detail)
    longest_s = min(_LONGEST_OBJECT_WAIT_S, max(policy.backoff_s, now - since))
    return _retry(error, (longest_s / 2, longest_s), count=not is_free, unavailable_since=since)


def _after_remote_failure(lease: Lease, policy: ConsumerPolicy, now: float, error: Unavailable) -> Decision:
    shortest_s, longest_s = _backoff_s(lease, policy)
    asked_s = error.retry_after_s
    if lease.attempt >= policy.max_attempts or (asked_s > longest_s and _is_too_late(lease, policy, now, asked_s)):
        return Decision(End.REJECTED, Reason.REMOTE_UNREACHABLE, error.detail)
    delay_s = max(shortest_s, asked_s), max(longest_s, asked_s)
    return _retry(error, delay_s, count=True, unavailable_since=lease.unavailable_since)


def _after_endpoint_failure(lease: Lease, policy: ConsumerPolicy, now: float, error: Unavailable) -> Decision:
    """Retry a webhook as long as it is young enough, however often it has failed."""
    delay_s = tuple(max(each, error.retry_after_s) for each in _backoff_s(lease, policy))
    if now + delay_s[0] - lease.age_since > policy.max_age_s:
        return _dead_letter(lease, Reason.EXPIRED, error.detail)
    return _retry(error, (delay_s[0], delay_s[1]), count=True, unavailable_since=lease.unavailable_since)


def _after_outage(lease: Lease, policy: ConsumerPolicy, now: float, error: Unavailable, pause_s: float) -> Decision:
    if error.dependency is Dependency.DISK and now - lease.first_seen > _DISK_FULL_LIMIT_S:
        return _use_up(lease, policy, Reason.INTERNAL, str(error))  # perhaps its file never fits
    shortest_s, longest_s = _backoff_s(lease, policy)
    delay_s = max(shortest_s, pause_s), max(longest_s, pause_s)
    # An outage says nothing about an object that was unavailable before.
    return _retry(error, delay_s, count=False, unavailable_since=lease.unavailable_since)


def _use_up(lease: Lease, policy: ConsumerPolicy, reason: Reason, detail: str, *, is_bug: bool = False) -> Decision:
    """Use up an attempt, because the file may be the cause. After the last attempt make a dead letter."""
    if lease.attempt >= policy.max_attempts:
        return _dead_letter(lease, reason, detail, is_bug=is_bug)
    return Decision(End.RETRIED, reason, detail, _backoff_s(lease, policy), count=True, is_bug=is_bug)


def _retry(error: Unavailable, delay_s: tuple[float, float], *, count: bool, unavailable_since: float) -> Decision:
    reason, detail = error.dependency, str(error)
    return Decision(End.RETRIED, reason, detail, delay_s, count=count, unavailable_since=unavailable_since)


def _dead_letter(lease: Lease, reason: Reason, detail: str, *, is_bug: bool = False) -> Decision:
    # Crashes of workers can have any cause. If a decoder was killed as well, or an attempt failed, the file may be at
    # fault.
    is_file_suspect = reason is Reason.POISON and lease.failures > 0
    return Decision(End.DEAD_LETTER, reason, detail, is_file_suspect=is_file_suspect, is_bug=is_bug)


def _is_disk_trouble(error: Exception | None) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK_TROUBLE


def _is_too_late(lease: Lease, policy: ConsumerPolicy, now: float, delay_s: float) -> bool:
    return now + delay_s - lease.first_seen > policy.max_deferral_s


def _backoff_s(lease: Lease, policy: ConsumerPolicy) -> tuple[float, float]:
    """Return the bounds of an exponential backoff, with jitter on its upper half."""
    longest = min(policy.max_backoff_s, policy.backoff_s * 2.0 ** (lease.attempt - 1))
    return longest / 2, longest
