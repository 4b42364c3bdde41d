"""How an attempt ends: a row for each way."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

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
from avion_media.workers.decision import ConsumerPolicy, Decision, End, decide, pauses_consumer, refuse

NOW = 1_000_000.0
HOUR, DAY = 3600.0, 86_400.0
POLICY = ConsumerPolicy(
    slots=1, max_attempts=3, claim_after_s=60, backoff_s=10, max_backoff_s=25, max_deferral_s=HOUR, max_age_s=DAY
)
DELETIONS = ConsumerPolicy(
    slots=1, max_attempts=3, claim_after_s=60, backoff_s=10, max_backoff_s=25, max_age_s=DAY, gives_up=False
)


class Attempt:
    """What decides of a lease."""

    def __init__(
        self,
        *,
        failures: int = 0,
        deaths: int = 0,
        age_s: float = 0.0,
        replayed_s: float | None = None,
        unavailable_s: float | None = None,
        cancelled_by: str = "",
    ) -> None:
        self.failures, self.deaths, self.attempt = failures, deaths, failures + deaths + 1
        self.first_seen = NOW - age_s
        self.age_since = NOW - (age_s if replayed_s is None else replayed_s)
        self.unavailable_since = 0.0 if unavailable_s is None else NOW - unavailable_s
        self.cancelled_by = cancelled_by


def of(**facts: Any) -> Lease:
    return cast("Lease", Attempt(**facts))


def gone(dependency: Dependency, retry_after_s: float = 1.0) -> Unavailable:
    return Unavailable(dependency, "gone", retry_after_s)


LAST = {"failures": 2}
REJECTED_REMOTE = Decision(End.REJECTED, Reason.REMOTE_UNREACHABLE, "gone")
STORE = "the object store is not available: gone"
ROWS: dict[str, tuple[Exception | None, dict[str, Any], Decision]] = {
    "it returns": (None, {}, Decision(End.DONE)),
    "it lost its lease": (LeaseLost(), {}, Decision(End.LEASE_LOST)),
    "the file is at fault": (Rejected(Reason.CORRUPT, "bad"), LAST, Decision(End.REJECTED, Reason.CORRUPT, "bad")),
    "a bug": (KeyError("x"), {}, Decision(End.RETRIED, "internal", "KeyError('x')", (5, 10), count=True, is_bug=True)),
    "a bug again": (
        KeyError("x"),
        {"failures": 1},
        Decision(End.RETRIED, "internal", "KeyError('x')", (10, 20), count=True, is_bug=True),
    ),
    "a bug in the last attempt": (
        KeyError("x"),
        LAST,
        Decision(End.DEAD_LETTER, "internal", "KeyError('x')", is_bug=True),
    ),
    "crashes of workers are attempts": (
        KeyError("x"),
        {"deaths": 2},
        Decision(End.DEAD_LETTER, "internal", "KeyError('x')", is_bug=True),
    ),
    "a failed decoder": (
        DecoderFailed("KeyError"),
        {},
        Decision(End.RETRIED, "decoder_failed", "KeyError", (5, 10), count=True),
    ),
    "a failed decoder after a crash of a worker": (
        DecoderFailed("KeyError"),
        {"deaths": 1},
        Decision(End.RETRIED, "decoder_failed", "KeyError", (10, 20), count=True),
    ),
    "a failed decoder again": (
        DecoderFailed("KeyError"),
        {"failures": 1},
        Decision(End.REJECTED, "decoder_failed", "KeyError"),
    ),
    "a failed decoder in the last attempt": (
        DecoderFailed("KeyError"),
        {"deaths": 2},
        Decision(End.REJECTED, "decoder_failed", "KeyError"),
    ),
    "a killed decoder": (
        DecoderKilled("signal 9"),
        {},
        Decision(End.RETRIED, "decoder_killed", "sandbox is not available: signal 9", (5, 10), count=True),
    ),
    "a killed decoder in the last attempt": (
        DecoderKilled("signal 9"),
        LAST,
        Decision(End.DEAD_LETTER, "decoder_killed", "sandbox is not available: signal 9"),
    ),
    "an outage": (gone(Dependency.STORE), {}, Decision(End.RETRIED, "store", STORE, (7, 10))),
    "an outage in the last attempt": (gone(Dependency.STORE), LAST, Decision(End.RETRIED, "store", STORE, (12.5, 25))),
    "an outage of a task whose object was unavailable": (
        gone(Dependency.STORE),
        {"unavailable_s": 60},
        Decision(End.RETRIED, "store", STORE, (7, 10), unavailable_since=NOW - 60),
    ),
    "its upload was replaced": (
        gone(Dependency.UPLOAD),
        {},
        Decision(End.RETRIED, "upload", "upload is not available: gone", (7, 10)),
    ),
    "a full disk": (
        OSError(errno.ENOSPC, "full"),
        {"age_s": HOUR},
        Decision(End.RETRIED, "disk", "disk is not available: [Errno 28] full", (7, 10)),
    ),
    "no file can be opened": (
        OSError(errno.EMFILE, "many"),
        {},
        Decision(End.RETRIED, "disk", "disk is not available: [Errno 24] many", (7, 10)),
    ),
    "a full disk for more than an hour": (
        OSError(errno.ENOSPC, "full"),
        {"age_s": HOUR + 1},
        Decision(End.RETRIED, "internal", "disk is not available: [Errno 28] full", (5, 10), count=True),
    ),
    "a disk that others report": (
        gone(Dependency.DISK),
        {"age_s": HOUR + 1, **LAST},
        Decision(End.DEAD_LETTER, "internal", "disk is not available: gone"),
    ),
    "another error of the system": (
        OSError(errno.EACCES, "denied"),
        {},
        Decision(End.RETRIED, "internal", "PermissionError(13, 'denied')", (5, 10), count=True, is_bug=True),
    ),
    "a remote server": (
        gone(Dependency.REMOTE),
        {},
        Decision(End.RETRIED, "remote", "remote is not available: gone", (5, 10), count=True),
    ),
    "a remote server that names a time": (
        gone(Dependency.REMOTE, 100),
        {},
        Decision(End.RETRIED, "remote", "remote is not available: gone", (100, 100), count=True),
    ),
    "a remote server that names a time beyond the limit": (gone(Dependency.REMOTE, HOUR + 1), {}, REJECTED_REMOTE),
    "a remote server in the last attempt": (gone(Dependency.REMOTE), LAST, REJECTED_REMOTE),
    "an endpoint of webhooks": (
        gone(Dependency.ENDPOINT),
        {"failures": 9},
        Decision(End.RETRIED, "endpoint", "endpoint is not available: gone", (12.5, 25), count=True),
    ),
    "an endpoint that names a time": (
        gone(Dependency.ENDPOINT, 100),
        {},
        Decision(End.RETRIED, "endpoint", "endpoint is not available: gone", (100, 100), count=True),
    ),
    "an endpoint for too long": (
        gone(Dependency.ENDPOINT),
        {"age_s": DAY - 1},
        Decision(End.DEAD_LETTER, "expired", "gone"),
    ),
    "an object": (
        gone(Dependency.OBJECT),
        LAST,
        Decision(End.RETRIED, "object", "object is not available: gone", (5, 10), unavailable_since=NOW),
    ),
    "an object for two hours": (
        gone(Dependency.OBJECT),
        {"unavailable_s": 2 * HOUR},
        Decision(
            End.RETRIED, "object", "object is not available: gone", (1800, 3600), unavailable_since=NOW - 2 * HOUR
        ),
    ),
    "an object for six hours": (
        gone(Dependency.OBJECT),
        {"unavailable_s": 6 * HOUR},
        Decision(
            End.RETRIED,
            "object",
            "object is not available: gone",
            (1800, 3600),
            count=True,
            unavailable_since=NOW - 6 * HOUR,
        ),
    ),
    "an object for six hours in the last attempt": (
        gone(Dependency.OBJECT),
        {"unavailable_s": 6 * HOUR, **LAST},
        Decision(End.DEAD_LETTER, "unreadable", "gone"),
    ),
    "an unknown format": (
        UnknownFormat("newer"),
        LAST,
        Decision(End.DEFERRED, "unknown_type", "newer", (10, 12), unavailable_since=NOW),
    ),
    "an unknown format for two minutes": (
        UnknownFormat("newer"),
        {"unavailable_s": 120},
        Decision(End.DEFERRED, "unknown_type", "newer", (30, 36), unavailable_since=NOW - 120),
    ),
    "an unknown format for too long": (
        UnknownFormat("newer"),
        {"unavailable_s": DAY + 1},
        Decision(End.DEAD_LETTER, "expired", "newer"),
    ),
    "a busy host": (
        Deferred("busy", 4, whole_tenant=True),
        LAST,
        Decision(End.DEFERRED, "remote", "busy", (4, 4), whole_tenant=True),
    ),
    "a busy host after a redirect": (
        Deferred("busy", 5),
        {"age_s": 400},
        Decision(End.DEFERRED, "remote", "busy", (100, 120)),
    ),
    "a paused host": (Deferred("paused", 5, expires=True), {}, Decision(End.DEFERRED, "remote", "paused", (5, 6))),
    "a paused host for too long": (
        Deferred("gone", 5, expires=True),
        {"age_s": HOUR},
        REJECTED_REMOTE,
    ),
    "a deletion that is early": (
        Deferred("early", 5),
        {"age_s": DAY},
        Decision(End.DEFERRED, "remote", "early", (120, 144)),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_end_of_an_attempt(name: str) -> None:
    error, facts, decision = ROWS[name]
    assert decide(error, of(**facts), POLICY, NOW, pause_s=7.0) == decision


def test_a_deletion_waits_for_its_objects_without_a_limit() -> None:
    decision = decide(gone(Dependency.OBJECT), of(unavailable_s=DAY, failures=9), DELETIONS, NOW)
    assert (decision.end, decision.count) == (End.RETRIED, False)


REFUSED: dict[str, tuple[dict[str, Any], ConsumerPolicy, Decision | None]] = {
    "a new task": ({}, POLICY, None),
    "cancelled": ({"cancelled_by": "ada@12.5", "deaths": 3}, POLICY, Decision(End.DEAD_LETTER, "cancelled", "by ada")),
    "poison": ({"deaths": 3}, POLICY, Decision(End.DEAD_LETTER, "poison", "3 workers crashed with it")),
    "poison, and an attempt failed": (
        {"deaths": 3, "failures": 1},
        POLICY,
        Decision(End.DEAD_LETTER, "poison", "3 workers crashed with it", is_file_suspect=True),
    ),
    "one crash fewer": ({"deaths": 2}, POLICY, None),
    "too old": ({"age_s": DAY + 1}, POLICY, Decision(End.DEAD_LETTER, "expired", "older than 24 h")),
    "old, and replayed": ({"age_s": DAY + 1, "replayed_s": 1}, POLICY, None),
    "an old deletion": ({"age_s": DAY + 1}, DELETIONS, None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_task_that_gets_no_attempt(name: str) -> None:
    facts, policy, decision = REFUSED[name]
    assert refuse(of(**facts), policy, NOW, max_deaths=3) == decision


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (gone(Dependency.STORE), True),
        (gone(Dependency.REDIS), True),
        (gone(Dependency.SANDBOX), True),
        (OSError(errno.ENOSPC, "full"), True),
        (gone(Dependency.REMOTE), False),
        (gone(Dependency.ENDPOINT), False),
        (gone(Dependency.UPLOAD), False),
        (gone(Dependency.OBJECT), False),
        (DecoderKilled("signal 9"), False),
        (Deferred("busy", 1), False),
        (KeyError("x"), False),
        (None, False),
    ],
)
def test_the_consumer_pauses_if_other_tasks_need_it_too(error: Exception | None, *, pauses: bool) -> None:
    assert pauses_consumer(error) == pauses
