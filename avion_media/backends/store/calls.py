"""A limited number of calls to the store, and what their results say about the store.

Frequent calls are `Requests` on Trio. botocore makes all others, in a thread. There are two kinds of calls. A *read*
ends at once if its caller is cancelled: a thread is abandoned, continues until its socket timeout, and drops the
result. A *change* is never abandoned, so that nothing is written after its caller has stopped: a cancel waits for the
request, at most `StoreCalls.max_request_s`.

A single object can fail: a lost placement group, a damaged index entry, a policy, a lost encryption key. If a caller
took this for an outage, all other work would stop. So calls are compared by operation. If three objects fail, and no
other object succeeds with the same operation, that is an outage, even if the store still responds to a ping.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from avion_media.backends.settings import S3Config
from avion_media.backends.store.clients import Clients
from avion_media.backends.store.errors import (
    RangeNotSatisfiable,
    StoreRefused,
    TooLarge,
    UploadMissing,
    translate,
    translated,
)
from avion_media.common.concurrency import take
from avion_media.common.errors import Dependency, MediaError, ObjectMissing, PreconditionFailed, Unavailable
from avion_media.common.keys import INCOMING_PREFIX, ORIGINAL_PREFIX
from avion_media.common.telemetry import instruments
from trio_s3 import ATTEMPTS, LONGEST_PAUSE_S, PartRequest, Requests, S3Error
from trio_telemetry import OutageLog, Telemetry, get_logger

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")
Request = Callable[[Requests], Awaitable[T]]
BotocoreCall = Callable[["S3Client"], T]

CALLS, VISITORS = "store.calls", "store.visitors"
_WATCH_S = 10.0
_WATCH_WHEN_UNAVAILABLE_S = 1.0
_PING_S = 3.0  # a caller whose call has failed also waits for this ping
_PROBES: Final[dict[str, Callable[[Requests, str], Awaitable[object]]]] = {
    "GetObject": lambda requests, key: requests.get(PartRequest(key, (0, 0), None, 1)),
    "HeadObject": Requests.head,
}
"""Operations that can be tested without changing anything."""
_KNOWING = frozenset({"GetObject", "HeadObject", "PutObject"})  # after these the object exists
_RESULTS: Final[dict[type[BaseException], str]] = {
    ObjectMissing: "missing",
    UploadMissing: "missing",
    PreconditionFailed: "precondition",
    RangeNotSatisfiable: "range",
    TooLarge: "too_large",
    trio.Cancelled: "cancelled",
}
"""Errors that are results for the caller, and their words in telemetry. All others mark the span as failed."""
_FAULTS: Final[dict[type[BaseException], str]] = {Unavailable: "unavailable", StoreRefused: "refused"}

_log = get_logger()
_ENOUGH_KEYS = 3  # two objects of one damaged media item can fail together: the file and a thumbnail
_OLD_S = 60.0  # far longer than the pause of a consumer


class StoreCalls:
    """Runs calls, measures them, and decides by their results whether the store is available. Made by `open_store`.

    ``operation`` is the name of a call in telemetry: that of its request in S3's API. Every call can raise
    `Unavailable`: with OBJECT if the store is available, but not this object.
    """

    def __init__(self, config: S3Config, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self.bucket = config.bucket
        self.limiters = {name: trio.CapacityLimiter(config.threads) for name in (CALLS, VISITORS)}
        """All calls, and the reads for visitors, by their names in telemetry."""
        self.config = config
        self.clients = Clients(config)
        self.state = StoreState()
        self._known_good = ""  # the key that a call last succeeded for
        self._pinging = trio.Lock()
        self._pinged_at = float("-inf")
        self._pinged = False

    @property
    def max_request_s(self) -> float:
        """Longest time of a request without its body. A cancelled change waits at most this long."""
        return ATTEMPTS * (self.clients.connect_timeout_s + self.config.timeout) + LONGEST_PAUSE_S

    @property
    def can_relay(self) -> bool:
        """Whether a relayed body, which takes long, leaves enough calls for other visitors, and is not encrypted."""
        visitors = self.limiters[VISITORS]
        return visitors.borrowed_tokens * 2 < visitors.total_tokens and not self.clients.requests.are_encrypted

    async def send(
        self, operation: str, request: Request[T], key: str = "", *, within_s: float = math.inf, limiter: str = CALLS
    ) -> T:
        """Make a request on Trio. ``within_s`` limits the whole time, including the wait for its turn."""
        with self._observed(operation, key):
            running = self._sent(request, limiter)
            if within_s < math.inf:
                running = self._in_time(running, within_s)
            return await self._judged(running, operation, key)

    async def query(self, operation: str, call: BotocoreCall[T], key: str = "") -> T:
        """Let botocore read facts, within `max_request_s`."""
        with self._observed(operation, key):
            running = self._in_time(self._run(call, key, abandon=True), self.max_request_s)
            return await self._judged(running, operation, key)

    async def change(self, operation: str, call: BotocoreCall[T], key: str = "") -> T:
        """Let botocore change the store. A cancel waits for a running call, whose result is valid."""
        with self._observed(operation, key):
            return await self._judged(self._run(call, key, abandon=False), operation, key)

    async def ping(self) -> None:
        """Make a small request for the bucket. Raises `Unavailable`, also if the bucket does not exist."""
        try:
            with self._observed("HeadBucket", ""):
                await self._in_time(self._sent(Requests.head_bucket), self.max_request_s)
        except Unavailable as error:
            self.state.note_unavailable(error.detail)
            raise
        except MediaError as error:
            self._check_reached(error)
            await self._note_ping()
            raise
        await self._note_ping()

    async def prepare(self) -> None:
        """Find credentials, so that presigning works, without a request to the store. Missing credentials are not an
        error here."""
        try:
            await self.clients.refresh()
        except Unavailable as error:
            self.state.note_unavailable(error.detail)

    async def watch(self) -> None:
        """Keep the credentials fresh, and notice without other traffic when the store becomes unavailable or available.
        Never returns.

        It pings the store after a while without calls, so that readiness recovers by itself.
        """
        while True:
            try:
                await self.clients.refresh()
                if not self.state.is_available or self.state.silent_s >= _WATCH_S:
                    await self.ping()
            except MediaError as error:
                _log.debug("store.watched", detail=str(error))
            pause_s = _WATCH_S if self.state.is_available else _WATCH_WHEN_UNAVAILABLE_S
            with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)):
                await self.state.wait_changed()

    @contextmanager
    def _observed(self, operation: str, key: str) -> Iterator[None]:
        """Record a span and a duration, by the conventions for AWS SDKs and S3. The store does not need our traces, so
        no trace context is sent."""
        method = f"S3/{operation}"
        where = {"aws__s3__bucket": self.bucket} | ({"aws__s3__key": key} if key else {})
        began_at, error_type = time.perf_counter(), ""
        failure: BaseException | None = None
        with self._telemetry.child_span(
            f"S3.{operation}", kind="client", rpc__system__name="aws-api", rpc__method=method, **where
        ) as span:
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised again below: the span would count it as a fault
                failure = error
                error_type = _word_for(error, _RESULTS)
                if error_type:
                    span.set(error__type=error_type)
                else:
                    error_type = _word_for(error, _FAULTS) or type(error).__name__
                    span.fail(error_type)
        duration_s = time.perf_counter() - began_at
        self._telemetry.record(instruments.S3_DURATION, duration_s, rpc__method=method, error__type=error_type)
        if failure is not None:
            raise failure

    async def _sent(self, request: Request[T], limiter: str = CALLS) -> T:
        """Send a request, once the limiter lets it."""
        await trio.lowlevel.checkpoint_if_cancelled()  # a small request might meet no other before it is sent
        slots = self.limiters[limiter]
        asked_at = time.perf_counter()
        try:
            await take(slots)
        finally:
            if limiter == CALLS:
                self._note_wait(asked_at)
        try:
            return await request(self.clients.requests)
        except S3Error as error:
            raise translate(error) from error
        finally:
            slots.release()

    async def _run(self, call: BotocoreCall[T], key: str, *, abandon: bool) -> T:
        client = self.clients.botocore
        asked_at = time.perf_counter()

        def run() -> T:
            self._note_wait(asked_at)
            return call(client)

        with translated(key):
            return await trio.to_thread.run_sync(run, abandon_on_cancel=abandon, limiter=self.limiters[CALLS])

    def _note_wait(self, asked_at: float) -> None:
        self._telemetry.record(instruments.LIMITER_WAIT, time.perf_counter() - asked_at, limiter=CALLS)

    async def _in_time(self, running: Awaitable[T], within_s: float) -> T:
        try:
            with trio.fail_after(within_s):
                return await running
        except trio.TooSlowError:
            raise Unavailable(Dependency.STORE, f"no answer within {within_s:g} s") from None

    async def _judged(self, running: Awaitable[T], operation: str, key: str) -> T:
        """Await a call, and record by its result whether the store is available."""
        try:
            result = await running
        except Unavailable as error:
            if await self._store_fails(operation, key, error.detail) or not key:
                raise
            raise Unavailable(Dependency.OBJECT, f"{key}: {error.detail}", error.retry_after_s) from error
        except MediaError as error:
            if key:
                self._check_reached(error)
            if self.state.reached:  # until then a 404 proves nothing: HEAD returns it for a missing bucket as well
                self.state.note_answer()
            raise
        self.state.note_success(operation)
        if operation in _KNOWING and not key.startswith(INCOMING_PREFIX):  # uploads are soon removed
            self._known_good = key
        self.state.note_answer()
        return result

    def _check_reached(self, error: MediaError) -> None:
        """Raise `Unavailable` for a refusal if the bucket has never responded, because the server might not be a
        store."""
        if isinstance(error, StoreRefused) and not self.state.reached:
            self.state.note_unavailable(str(error))
            raise Unavailable(Dependency.STORE, str(error), retry_after_s=5.0) from error

    async def _store_fails(self, operation: str, key: str, cause: str) -> bool:
        """Return whether a call failed because the whole store fails."""
        if self.state.is_unavailable or not await self._answers_a_ping():
            return True
        if not key or not self.state.note_failure(operation, key) or await self._works_for_another_key(operation):
            return False
        self.state.note_unavailable(f"{operation} fails for every object: {cause}")
        return True

    async def _answers_a_ping(self) -> bool:
        """Return whether the store responds to a ping that begins now. Concurrent callers share one ping."""
        asked_at = trio.current_time()
        async with self._pinging:
            if self._pinged_at < asked_at:
                self._pinged_at, self._pinged = trio.current_time(), await self._ping_answered()
            return self._pinged

    async def _ping_answered(self) -> bool:
        with trio.move_on_after(_PING_S):
            try:
                await self.ping()
            except Unavailable:
                return False
            except MediaError:  # a response, although an error
                return True
            return True
        self.state.note_unavailable(f"no answer to a ping within {_PING_S:g} s")
        return False

    async def _works_for_another_key(self, operation: str) -> bool:
        """Return whether the operation works for another object that should be readable, if one is known."""
        probe = _PROBES.get(operation)
        if probe is None:
            return False
        with trio.move_on_after(_PING_S), suppress(MediaError):
            originals = await self._sent(lambda requests: requests.list_keys(ORIGINAL_PREFIX, "", "", 1))
            for key in filter(None, (self._known_good, *originals.entries)):
                with suppress(MediaError):
                    await self._sent(lambda requests, key=key: probe(requests, key))  # type: ignore[misc]
                    self.state.note_success(operation)
                    return True
        return False

    async def _note_ping(self) -> None:
        """Record that the store responded to a ping. If an operation was broken, test it, too."""
        broken = self.state.broken
        if broken and not await self._works_for_another_key(broken) and self.state.is_old(broken):
            self.state.note_success(broken)
        self.state.note_answer()


def _word_for(error: BaseException, words: dict[type[BaseException], str]) -> str:
    return next((word for kind, word in words.items() if isinstance(error, kind)), "")


class StoreState:
    """The last known state, and since when. Each change is logged once, and wakes waiting tasks."""

    def __init__(self) -> None:
        self._answers: bool | None = None  # not known before the first call
        self._cause = "it has not responded yet"
        self._heard_at = float("-inf")
        self._outages = OutageLog("store", "foundation/store")
        self._changed = trio.Event()
        self._failed: dict[str, set[str]] = {}  # by operation: keys that failed since it last succeeded
        self._failed_at: dict[str, float] = {}
        self.reached = False
        """Whether the bucket has responded once."""

    @property
    def is_available(self) -> bool:
        """Whether the store responds, and not all objects fail. False until the bucket has responded once."""
        return bool(self._answers)

    @property
    def is_unavailable(self) -> bool:
        """Whether the store is known to be unavailable."""
        return self._answers is False

    @property
    def cause(self) -> str:
        """Why the store is not available; empty while it is."""
        return "" if self._answers else self._cause

    @property
    def silent_s(self) -> float:
        """Seconds since the last response."""
        return trio.current_time() - self._heard_at

    async def wait_available(self) -> None:
        """Wait until the bucket responds. Returns at once while it does."""
        while not self._answers:
            await self._changed.wait()

    async def wait_changed(self) -> None:
        """Wait until the store becomes available or unavailable."""
        await self._changed.wait()

    def note_unavailable(self, cause: str) -> None:
        """Record an outage: the store does not respond, or each object fails."""
        self._cause = cause
        self._outages.unavailable(cause)
        self._note(False)

    def note_answer(self) -> None:
        """Record a response, even if there is no such object. It does not end the outage of a broken operation."""
        if not self.broken:
            self._heard_at = trio.current_time()
            self.reached = True
            self._outages.available()
            self._note(True)

    def note_failure(self, operation: str, key: str) -> bool:
        """Record a failed call. Return whether so many objects failed that the operation itself must be broken."""
        keys = self._failed.setdefault(operation, set())
        if len(keys) < _ENOUGH_KEYS:
            keys.add(key)
        self._failed_at[operation] = trio.current_time()
        return len(keys) >= _ENOUGH_KEYS

    def note_success(self, operation: str) -> None:
        """Record a successful call. A missing object does not prove that others can be read."""
        self._failed.pop(operation, None)

    @property
    def broken(self) -> str:
        """A broken operation, or an empty string."""
        return next((each for each, keys in self._failed.items() if len(keys) >= _ENOUGH_KEYS), "")

    def is_old(self, operation: str) -> bool:
        """Return whether the operation was not tried for so long that its failures prove nothing any more."""
        return trio.current_time() - self._failed_at.get(operation, 0.0) > _OLD_S

    def _note(self, answers: bool) -> None:
        if answers != self._answers:
            self._answers = answers
            self._changed.set()
            self._changed = trio.Event()
