"""A limited number of calls to the store, and what their results say about the store.

Frequent calls have a `Quick` request on Trio. botocore, in a thread, makes all others, and repeats those that were not
understood: it handles the quirks of every store. There are two kinds of calls. A *read* ends at once if its caller is
cancelled: a thread is abandoned, continues until its socket timeout, and drops the result. A *change* is never
abandoned, so that nothing is written after its caller has stopped: a cancel waits for the request, at most
`Connection.max_request_s`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from botocore.exceptions import ClientError

from avion_media.backends.settings import S3Config
from avion_media.backends.store.availability import Availability
from avion_media.backends.store.clients import ATTEMPTS, Clients
from avion_media.backends.store.errors import StoreRefused, no_bucket, translated
from avion_media.backends.store.evidence import Evidence
from avion_media.backends.store.objects import ObjectPart, PartRequest
from avion_media.backends.store.observed import StoreCall
from avion_media.backends.store.presign import upload_guard
from avion_media.backends.store.requests import ForBotocore, Requests
from avion_media.backends.store.transfer import get_object
from avion_media.common.concurrency import take
from avion_media.common.errors import Dependency, MediaError, Unavailable
from avion_media.common.keys import INCOMING_PREFIX, ORIGINAL_PREFIX
from avion_media.common.telemetry import NO_TELEMETRY, Telemetry, get_logger, instruments

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

T = TypeVar("T")
Call = Callable[["S3Client"], T]
"""A request by botocore, in a thread."""
Quick = Callable[[Requests], Awaitable[T | ForBotocore]]
"""The same request on Trio."""

_BACKOFF_S = 2.0  # longer than botocore waits between two attempts
_WATCH_S = 10.0
_WATCH_WHEN_UNAVAILABLE_S = 1.0
_PING_S = 3.0  # a caller whose call has failed also waits for this ping
_PROBED = frozenset({"GetObject", "HeadObject"})  # operations that can be tested without changing anything
_KNOWING = frozenset({"GetObject", "HeadObject", "PutObject"})  # after these the object exists

_log = get_logger()


class Connection:
    """Runs calls, measures them, and decides by their results whether the store is available. Made by `open_store`."""

    def __init__(self, config: S3Config, max_calls: int, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._telemetry = telemetry
        self.bucket = config.bucket
        self.upload_guard = upload_guard(config.upload_acl, deny_copy=config.upload_deny_copy)
        self.part_guard = upload_guard("", deny_copy=config.upload_deny_copy)  # parts have no ACL
        self.calls = trio.CapacityLimiter(max_calls)
        """All calls but the next, on Trio or in threads."""
        self.visitors = trio.CapacityLimiter(max_calls)
        """Reads for visitors."""
        self._config = config
        self.clients = Clients(config, max_calls)
        self.state = Availability()
        self._evidence = Evidence()
        self._known_good = ""  # the key that a call last succeeded for
        self._pinging = trio.Lock()
        self._pinged_at = float("-inf")
        self._pinged = False

    @property
    def max_request_s(self) -> float:
        """Longest time of a request without its body. A cancelled change waits at most this long."""
        return ATTEMPTS * (self.clients.connect_timeout_s + self._config.timeout) + _BACKOFF_S

    @property
    def custom_endpoint(self) -> bool:
        """Whether the store is not AWS."""
        return bool(self._config.endpoint_url)

    # ``operation`` is the name of a call in telemetry: that of its request in S3's API.

    async def get(self, wanted: PartRequest, *, for_visitor: bool = False) -> ObjectPart:
        """GetObject. A cancel returns once nothing can write to ``wanted.file`` any more.

        For a visitor it does not wait for the calls of workers, and botocore repeats it only if the response was not
        understood. A relayed body is never repeated.
        """
        by_botocore = None if wanted.relay else partial(get_object, self.bucket, wanted)
        with self._observed("GetObject", wanted.key, waits=not for_visitor) as observed:
            running = self._answer(
                observed,
                by_botocore,
                lambda requests: requests.get(wanted),
                abandon=wanted.file is None,
                for_visitor=for_visitor,
            )
            return await self._judged(running, "GetObject", wanted.key)

    @property
    def can_relay(self) -> bool:
        """Whether a relayed body, which takes long, leaves enough calls for other visitors, and is not encrypted."""
        few = self.visitors.borrowed_tokens * 2 < self.visitors.total_tokens
        return few and self.clients.http.tls is None and "GetObject" not in self.clients.requests.refused

    async def query(self, call: Call[T], key: str = "", *, operation: str = "", quick: Quick[T] | None = None) -> T:
        """Make a read of facts, with a limit on the whole time, including the wait for its turn. Raises `Unavailable`
        at the limit."""
        with self._observed(operation, key) as observed:
            running = self._in_time(self._answer(observed, call, quick, abandon=True))
            return await self._judged(running, operation, key)

    async def change(self, call: Call[T], key: str = "", *, operation: str = "", quick: Quick[T] | None = None) -> T:
        """Make a call that changes the store. A cancel waits for a running call, whose result is valid."""
        with self._observed(operation, key) as observed:
            return await self._judged(self._answer(observed, call, quick, abandon=False), operation, key)

    async def put_presigned(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a request that a client with this URL could send, and return the status. Raises `Unavailable`."""
        with self._observed("UploadPart", "") as observed:
            running = self._answer(
                observed, None, lambda requests: requests.put_presigned(url, headers, body), abandon=False
            )
            return await self._judged(running, "UploadPart", "")

    def received(self, count: int) -> None:
        """Count bytes of objects that were read."""
        self._telemetry.count(instruments.STORE_IO, count, network__io__direction="receive")

    def sent(self, count: int) -> None:
        """Count bytes of objects that were written."""
        self._telemetry.count(instruments.STORE_IO, count, network__io__direction="transmit")

    def _observed(self, operation: str, key: str, *, waits: bool = True) -> StoreCall:
        return StoreCall(self._telemetry, operation, self.bucket, key, waits=waits)

    async def ping(self) -> None:
        """Make a small request for the bucket. Raises `Unavailable`, also if the bucket does not exist."""
        try:
            with self._observed("HeadBucket", "") as observed:
                await self._in_time(self._answer(observed, self._head_bucket, abandon=True))
        except Unavailable as error:
            self.state.note(False, error.detail)
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
            await self.clients.connect()
        except MediaError as error:
            self.state.note(False, _detail(error))

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
                _log.debug("store.watched", detail=_detail(error))
            pause_s = _WATCH_S if self.state.is_available else _WATCH_WHEN_UNAVAILABLE_S
            with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)):
                if self.state.is_available:
                    await self.state.wait_changed()
                else:
                    await trio.sleep_forever()

    def _head_bucket(self, client: S3Client) -> None:
        try:
            client.head_bucket(Bucket=self.bucket)
        except ClientError as error:  # a response to HEAD has no body, so there is no better code
            if error.response["Error"]["Code"] != "404":
                raise
            raise no_bucket() from error

    async def _answer(
        self,
        observed: StoreCall,
        call: Call[T] | None,
        quick: Quick[T] | None = None,
        *,
        abandon: bool,
        for_visitor: bool = False,
    ) -> T:
        """Return the answer to a ``quick`` request, or else to botocore's ``call``.

        If botocore succeeds where the first was refused, presigning was the cause, and is not tried again.
        """
        refused = False
        if quick is not None:
            await self.clients.connect()
            if call is None or observed.operation not in self.clients.requests.refused:
                answer = await self._sent(observed, quick, self.visitors if for_visitor else self.calls)
                if not isinstance(answer, ForBotocore):
                    return answer
                if call is None or (for_visitor and not answer.status):
                    raise Unavailable(Dependency.STORE, answer.why or f"status {answer.status}")
                refused = 400 <= answer.status < 404
        assert call is not None
        result = await self._run(observed.timed(call), observed.key, abandon=abandon)
        if refused:
            self.clients.requests.refused.add(observed.operation)
        return result

    async def _sent(self, observed: StoreCall, quick: Quick[T], limiter: trio.CapacityLimiter) -> T | ForBotocore:
        """Make a ``quick`` request, once ``limiter`` lets it."""
        await trio.lowlevel.checkpoint_if_cancelled()  # a small request might meet no other before it is sent
        await take(limiter)
        try:
            observed.began()
            return await quick(self.clients.requests)
        finally:
            limiter.release()

    async def _run(self, call: Call[T], key: str, *, abandon: bool) -> T:
        client = await self.clients.connect()
        with translated(key):
            return await trio.to_thread.run_sync(call, client, abandon_on_cancel=abandon, limiter=self.calls)

    async def _in_time(self, running: Awaitable[T]) -> T:
        try:
            with trio.fail_after(self.max_request_s):
                return await running
        except trio.TooSlowError:
            raise Unavailable(Dependency.STORE, f"no answer within {self.max_request_s:g} s") from None

    async def _judged(self, running: Awaitable[T], operation: str, key: str) -> T:
        """Await a call, and record by its result whether the store is available.

        Raises `Unavailable` with OBJECT if the store is available, but not this object.
        """
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
                self._note_answer()
            raise
        self._note_success(operation, key)
        return result

    def _check_reached(self, error: MediaError) -> None:
        """Raise `Unavailable` for a refusal if the bucket has never responded, because the server might not be a
        store."""
        if isinstance(error, StoreRefused) and not self.state.reached:
            self.state.note(False, str(error))
            raise Unavailable(Dependency.STORE, str(error), retry_after_s=5.0) from error

    async def _store_fails(self, operation: str, key: str, cause: str) -> bool:
        """Return whether a call failed because the whole store fails."""
        if self.state.is_unavailable or not await self._answers_a_ping():
            return True
        if not key:
            return False
        self._evidence.failed(operation, key)
        if not self._evidence.is_enough(operation) or await self._works_for_another_key(operation):
            return False
        self.state.note(False, f"{operation} fails for every object: {cause}")
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
        self.state.note(False, f"no answer to a ping within {_PING_S:g} s")
        return False

    async def _works_for_another_key(self, operation: str) -> bool:
        """Return whether the operation works for another object that should be readable, if one is known."""
        if operation not in _PROBED:
            return False
        with trio.move_on_after(_PING_S), suppress(MediaError):
            for key in (self._known_good, await self._run(self._any_original, "", abandon=True)):
                if key and await self._is_readable(operation, key):
                    self._evidence.succeeded(operation)
                    return True
        return False

    def _any_original(self, client: S3Client) -> str:
        listed = client.list_objects_v2(Bucket=self.bucket, Prefix=ORIGINAL_PREFIX, MaxKeys=1).get("Contents", [])
        return listed[0]["Key"] if listed else ""

    async def _is_readable(self, operation: str, key: str) -> bool:
        def read(client: S3Client) -> None:
            if operation == "HeadObject":
                client.head_object(Bucket=self.bucket, Key=key)
            else:
                client.get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")["Body"].close()

        try:
            await self._run(read, key, abandon=True)
        except MediaError:
            return False
        return True

    def _note_answer(self) -> None:
        """Record that the store responded, even if there is no such object."""
        if not self._evidence.broken:
            self.state.note(True)

    def _note_success(self, operation: str, key: str) -> None:
        self._evidence.succeeded(operation)
        if operation in _KNOWING and not key.startswith(INCOMING_PREFIX):  # uploads are soon removed
            self._known_good = key
        self._note_answer()

    async def _note_ping(self) -> None:
        """Record that the store responded to a ping. If an operation was broken, test it, too."""
        broken = self._evidence.broken
        if not broken or await self._works_for_another_key(broken):
            self._note_answer()
        elif self._evidence.is_old(broken):
            self._evidence.succeeded(broken)
            self._note_answer()


def _detail(error: MediaError) -> str:
    return error.detail if isinstance(error, Unavailable) else str(error)
