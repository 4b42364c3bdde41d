"""A span and a metric for each call of the store, by the conventions for AWS SDKs and S3.

No trace context is sent, because the store does not need our traces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import trio

from avion_media.backends.store.errors import RangeNotSatisfiable, StoreRefused, TooLarge, UploadMissing
from avion_media.common.errors import ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.telemetry import NO_SPAN, Span, Telemetry, instruments

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")

CALLS = "store.calls"
# Errors that are results for a caller, and errors that are faults.
_ANSWERS: tuple[tuple[type[BaseException], str], ...] = (
    (ObjectMissing, "missing"),
    (UploadMissing, "missing"),
    (PreconditionFailed, "precondition"),
    (RangeNotSatisfiable, "range"),
    (TooLarge, "too_large"),
    (trio.Cancelled, "cancelled"),
)
_FAULTS: tuple[tuple[type[BaseException], str], ...] = ((Unavailable, "unavailable"), (StoreRefused, "refused"))


class StoreCall(AbstractContextManager["StoreCall"]):
    """``operation`` is the name in S3's API (``GetObject``). Without one, only the wait for its turn is measured."""

    def __init__(self, telemetry: Telemetry, operation: str, bucket: str, key: str, *, waits: bool) -> None:
        self._telemetry = telemetry
        self.operation = operation
        self.key = key
        self._bucket = bucket
        self._block: AbstractContextManager[Span] = NO_SPAN
        self._span: Span = NO_SPAN
        self._asked_at = 0.0
        self._began_at: float | None = None
        self._waits = waits

    def began(self) -> None:
        """Record that it is the call's turn."""
        self._began_at = self._began_at or time.perf_counter()

    def timed(self, call: Callable[[S3Client], T]) -> Callable[[S3Client], T]:
        """Return ``call`` for a thread, with a record of its start."""

        def run(client: S3Client) -> T:
            self.began()
            return call(client)

        return run

    def __enter__(self) -> StoreCall:
        if self.operation:
            where = {"aws__s3__bucket": self._bucket} | ({"aws__s3__key": self.key} if self.key else {})
            self._block = self._telemetry.child_span(
                f"S3.{self.operation}",
                kind="client",
                rpc__system__name="aws-api",
                rpc__method=f"S3/{self.operation}",
                **where,
            )
            self._span = self._block.__enter__()
        self._asked_at = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        now = time.perf_counter()
        if self._waits:
            waited_s = (self._began_at or now) - self._asked_at
            self._telemetry.record(instruments.LIMITER_WAIT, waited_s, limiter=CALLS)
        if not self.operation:
            return
        error_type = "" if error is None else self._name_of(error)
        self._telemetry.record(
            instruments.S3_DURATION,
            now - self._asked_at,
            rpc__method=f"S3/{self.operation}",
            error__type=error_type,
        )
        self._block.__exit__(None, None, None)

    def _name_of(self, error: BaseException) -> str:
        """Return a word for the error. Only a fault marks the span as failed."""
        for kind, word in _FAULTS:
            if isinstance(error, kind):
                self._span.fail(word)
                return word
        for kind, word in _ANSWERS:
            if isinstance(error, kind):
                self._span.set(error__type=word)
                return word
        self._span.fail(type(error).__name__)
        return type(error).__name__
