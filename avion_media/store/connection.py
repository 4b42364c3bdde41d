"""One S3 client shared by a bounded number of threads, and the state of the store behind it.

Decisions: boto3 in threads rather than an HTTP client of our own: a third of the CPU per byte, and every store's
quirks are boto3's business. Two kinds of calls: a *read* is abandoned when its caller is cancelled (the thread goes on
until its socket timeout and drops what it got); a *change* never is, so that nothing lands in the store after its
caller has given up: its cancel waits for the request, at most `Connection.max_request_s`.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import boto3
import trio
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError, NoCredentialsError

from avion_media.config import S3Config
from avion_media.domain.errors import Dependency, MediaError, Unavailable
from avion_media.domain.keys import INCOMING_PREFIX, ORIGINAL_PREFIX
from avion_media.store.errors import NO_BUCKET, NO_CREDENTIALS, StoreRefused, translated
from avion_media.store.evidence import Evidence
from avion_media.store.http_get import HttpGet, tls_context
from avion_media.store.objects import ObjectPart, PartRequest
from avion_media.store.observed import StoreCall
from avion_media.store.presign import Presigner, SigningCredentials, upload_guard
from avion_media.store.quick_acks import ask_for_quick_acks
from avion_media.store.quick_requests import QuickRequests, ca_bundle, open_session
from avion_media.telemetry import NO_TELEMETRY, OutageLog, Telemetry, get_logger, instruments

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.httpsession import URLLib3Session
    from types_boto3_s3 import S3Client

T = TypeVar("T")

_ATTEMPTS = 2  # the second is for a kept-alive connection that the store had closed; tasks bring their own retries
_BACKOFF_S = 2.0  # more than botocore waits between two attempts
_MAX_CONNECT_S = 3.0
_CREDENTIALS_S = 10.0  # boto3's chain may ask a metadata service, and gives up on it after a second or two
_NO_CREDENTIALS_PAUSE_S = 5.0
_WATCH_S = 10.0
_WATCH_WHEN_UNAVAILABLE_S = 1.0
_PING_S = 3.0  # a caller waits for this ping on top of its own call, which has failed already
_PROBED = frozenset({"GetObject", "HeadObject"})  # operations that can be tried without changing anything
_KNOWING = frozenset({"GetObject", "HeadObject", "PutObject"})  # after these the object is there

_log = get_logger(path="foundation/store")


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs: uploads may have credentials of their own, with no right but to put what is incoming."""

    uploads: Presigner
    uploads_inside: Presigner
    """As ``uploads``, for the service's own address of the store: to try what clients can do."""
    downloads: Presigner


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the credentials come from; botocore keeps temporary ones fresh. Reading them may block."""

    own: Credentials
    uploads: Credentials

    def snapshot(self) -> _Snapshot:
        return _Snapshot(_frozen(self.own), _frozen(self.uploads))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Both, as they are now."""

    own: SigningCredentials
    uploads: SigningCredentials


class Connection:
    """The client, its threads, its credentials and whether the store answers. Made by `open_store`."""

    def __init__(self, config: S3Config, max_threads: int, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._telemetry = telemetry
        self.bucket = config.bucket
        self.upload_guard = upload_guard(config.upload_acl, deny_copy=config.upload_deny_copy)
        self.part_guard = upload_guard("", deny_copy=config.upload_deny_copy)  # parts have no ACL
        self.threads = trio.CapacityLimiter(max_threads)
        self._config = config
        self._connecting = trio.Lock()
        self._client: S3Client | None = None
        self._sources: _Sources | None = None
        self._signers: Signers | None = None
        self._signed_with: _Snapshot | None = None
        self._http: URLLib3Session | None = None
        self._quick: QuickRequests | None = None
        self._http_get: HttpGet | None = None
        self._tls: ssl.SSLContext | None = None  # where the store has it
        self._why_not = NO_CREDENTIALS
        self._no_connect_before = float("-inf")
        self._answers: bool | None = None  # not known before the first call
        self._reached = False  # whether the bucket answered once
        self._cause = "it has not answered yet"
        self._outages = OutageLog("store", "foundation/store")
        self._changed = trio.Event()
        self._heard_at = float("-inf")
        self._evidence = Evidence()
        self._known_good = ""  # the key that a call last succeeded for
        self._pinging = trio.Lock()
        self._pinged_at = float("-inf")
        self._pinged = False

    @property
    def available(self) -> bool:
        """Whether the store works: it answers, and not all objects fail. False until the bucket answered once."""
        return bool(self._answers)

    @property
    def cause(self) -> str:
        """Why the store is not `available`; empty while it is."""
        return "" if self._answers else self._cause

    @property
    def max_request_s(self) -> float:
        """No request, its body aside, takes longer: also what a cancelled change waits at most."""
        return _ATTEMPTS * (self._connect_timeout_s + self._config.timeout) + _BACKOFF_S

    @property
    def custom_endpoint(self) -> bool:
        """Whether the store is another than AWS."""
        return bool(self._config.endpoint_url)

    @property
    def signers(self) -> Signers:
        """The signers for the present credentials. Raises Unavailable while there are none."""
        if self._signers is None:
            raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S)
        return self._signers

    @property
    def quick(self) -> QuickRequests:
        """The frequent requests, for less CPU than the client's. Only within a call that runs (see `read`)."""
        assert self._quick is not None  # made together with the client
        return self._quick

    async def wait_available(self) -> None:
        """Return once the bucket answers; at once while it does."""
        while not self._answers:
            await self._changed.wait()

    # ``operation`` is what telemetry calls the call: the name in S3's API of the one request that it makes.

    async def read(self, call: Callable[[S3Client], T], key: str = "", *, operation: str = "") -> T:
        """Run a call that changes nothing in a thread. A cancel returns at once; the thread drops its result later."""
        with self._observed(operation, key) as observed:
            return await self._judged(self._run(observed.timed(call), key, abandon=True), operation, key)

    async def get_part(self, wanted: PartRequest, by_thread: Callable[[S3Client], ObjectPart]) -> ObjectPart:
        """GetObject on Trio; ``by_thread`` is asked where only botocore understands the response."""
        with self._observed("GetObject", wanted.key) as observed:
            return await self._judged(self._get_part(observed, wanted, by_thread), "GetObject", wanted.key)

    async def _get_part(
        self, observed: StoreCall, wanted: PartRequest, by_thread: Callable[[S3Client], ObjectPart]
    ) -> ObjectPart:
        if self._client is None:
            await self._connect()
        http_get = self._http_get
        assert http_get is not None  # made together with the client
        status = 0
        if not http_get.is_refused:
            observed.without_thread()
            part = await http_get.get(wanted)
            if isinstance(part, ObjectPart):
                return part
            status = part
        found = await self._run(observed.timed(by_thread), wanted.key, abandon=True)
        http_get.is_refused = http_get.is_refused or 400 <= status < 404
        return found

    def close(self) -> None:
        """Close the connections that are kept for later."""
        if self._http_get is not None:
            self._http_get.close()

    async def query(self, call: Callable[[S3Client], T], key: str = "", *, operation: str = "") -> T:
        """A read of facts, bounded as a whole, the wait for a thread included. Unavailable when the time runs out."""
        with self._observed(operation, key) as observed:
            return await self._judged(self._run_in_time(observed.timed(call), key), operation, key)

    async def change(self, call: Callable[[S3Client], T], key: str = "", *, operation: str = "") -> T:
        """Run a call that changes the store in a thread. Once it runs, a cancel waits for it and its result stands."""
        with self._observed(operation, key) as observed:
            return await self._judged(self._run(observed.timed(call), key, abandon=False), operation, key)

    async def put_presigned(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send what a client with this URL could send, and return the status. Raises Unavailable."""

        def send(_client: S3Client) -> int:
            assert self._http is not None  # made together with the client
            prepared: Any = HeadersDict({"Content-Length": str(len(body)), **headers})
            response = self._http.send(AWSPreparedRequest("PUT", url, prepared, body, True))
            response.content  # noqa: B018 - read, so that the connection can be used again
            return int(response.status_code)

        return await self.change(send, operation="UploadPart")

    def received(self, count: int) -> None:
        """So many bytes of objects were read."""
        self._telemetry.count(instruments.STORE_IO, count, network__io__direction="receive")

    def sent(self, count: int) -> None:
        """So many bytes of objects were written."""
        self._telemetry.count(instruments.STORE_IO, count, network__io__direction="transmit")

    def _observed(self, operation: str, key: str) -> StoreCall:
        return StoreCall(self._telemetry, operation, self.bucket, key)

    async def ping(self) -> None:
        """One small request for the bucket. Raises Unavailable, also when there is none."""
        try:
            with self._observed("HeadBucket", "") as observed:
                await self._run_in_time(observed.timed(self._head_bucket), "")
        except Unavailable as error:
            self._note(False, error.detail)
            raise
        except MediaError as error:
            self._check_reached(error)
            await self._note_ping()
            raise
        await self._note_ping()

    async def prepare(self) -> None:
        """Find credentials, so that presigning works; no request to the store. Their absence is no error here."""
        try:
            await self._connect()
        except MediaError as error:
            self._note(False, _detail(error))

    async def watch(self) -> None:
        """Keep the credentials fresh, and notice without any traffic that the store is gone or back. Never returns.

        It asks the store whenever nobody else did for a while, so that readiness recovers by itself.
        """
        while True:
            try:
                await self._refresh_credentials()
                if not self._answers or trio.current_time() - self._heard_at >= _WATCH_S:
                    await self.ping()
            except MediaError as error:
                _log.debug("store.watched", detail=_detail(error))
            pause_s = _WATCH_S if self._answers else _WATCH_WHEN_UNAVAILABLE_S
            with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)):
                if self._answers:
                    await self._changed.wait()
                else:
                    await trio.sleep_forever()

    def _head_bucket(self, client: S3Client) -> None:
        try:
            client.head_bucket(Bucket=self.bucket)
        except ClientError as error:  # an answer to HEAD has no body, and so no better code than this
            if error.response["Error"]["Code"] != "404":
                raise
            raise Unavailable(Dependency.STORE, NO_BUCKET, retry_after_s=5.0) from error

    async def _run(self, call: Callable[[S3Client], T], key: str, *, abandon: bool) -> T:
        client = self._client or await self._connect()
        with translated(key):
            return await trio.to_thread.run_sync(call, client, abandon_on_cancel=abandon, limiter=self.threads)

    async def _run_in_time(self, call: Callable[[S3Client], T], key: str) -> T:
        try:
            with trio.fail_after(self.max_request_s):
                return await self._run(call, key, abandon=True)
        except trio.TooSlowError:
            raise Unavailable(Dependency.STORE, f"no answer within {self.max_request_s:g} s") from None

    async def _judged(self, running: Awaitable[T], operation: str, key: str) -> T:
        """Await a call, and learn from its end whether the store works.

        Raises Unavailable with OBJECT where the store works, but not for this object.
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
            if self._reached:  # until then it proves nothing: a HEAD gets 404 for a missing bucket as well
                self._note_answer()
            raise
        self._note_success(operation, key)
        return result

    def _check_reached(self, error: MediaError) -> None:
        """Raise Unavailable for a refusal if the bucket has never answered: the server might not be a store."""
        if isinstance(error, StoreRefused) and not self._reached:
            self._note(False, str(error))
            raise Unavailable(Dependency.STORE, str(error), retry_after_s=5.0) from error

    async def _store_fails(self, operation: str, key: str, cause: str) -> bool:
        """Return whether a call failed because the whole store does."""
        if self._answers is False or not await self._answers_a_ping():
            return True
        if not key:
            return False
        self._evidence.failed(operation, key)
        if not self._evidence.is_enough(operation) or await self._works_for_another_key(operation):
            return False
        self._note(False, f"{operation} fails for every object: {cause}")
        return True

    async def _answers_a_ping(self) -> bool:
        """Return whether the store answers a ping that begins now. Callers that wait at the same time share one."""
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
            except MediaError:  # an answer, though a wrong one
                return True
            return True
        self._note(False, f"no answer to a ping within {_PING_S:g} s")
        return False

    async def _works_for_another_key(self, operation: str) -> bool:
        """Return whether the operation works for an object that should be readable, if one is known."""
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
        """The store answered, if only that there is no such object."""
        if not self._evidence.broken:
            self._note(True)

    def _note_success(self, operation: str, key: str) -> None:
        self._evidence.succeeded(operation)
        if operation in _KNOWING and not key.startswith(INCOMING_PREFIX):  # what is incoming is soon removed
            self._known_good = key
        self._note_answer()

    async def _note_ping(self) -> None:
        """The store answered a ping. If an operation was broken, try it too."""
        broken = self._evidence.broken
        if not broken or await self._works_for_another_key(broken):
            self._note_answer()
        elif self._evidence.is_old(broken):
            self._evidence.succeeded(broken)
            self._note_answer()

    async def _connect(self) -> S3Client:
        """Find credentials and make the client. Both may read files or ask a metadata service, hence a thread."""
        async with self._connecting:
            if self._client is not None:
                return self._client
            if trio.current_time() < self._no_connect_before:  # or every call would go through the whole chain
                raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S)
            try:
                with trio.fail_after(_CREDENTIALS_S), translated():
                    client, sources, snapshot = await trio.to_thread.run_sync(self._make_client, abandon_on_cancel=True)
                    endpoint = self._config.endpoint_url or client.meta.endpoint_url
                    self._http = await trio.to_thread.run_sync(self._make_session, endpoint, abandon_on_cancel=True)
            except (trio.TooSlowError, Unavailable) as error:
                self._no_connect_before = trio.current_time() + _NO_CREDENTIALS_PAUSE_S
                self._forget_credentials(error)
            self._client, self._sources = client, sources
            self._sign_with(client, snapshot)
            return client

    def _make_client(self) -> tuple[S3Client, _Sources, _Snapshot]:
        session = boto3.Session(region_name=self._config.region)
        own = _credentials_of(session)
        profile = self._config.signing_profile
        sources = _Sources(own, _credentials_of(boto3.Session(profile_name=profile)) if profile else own)
        client: S3Client = session.client(
            "s3",
            endpoint_url=self._config.endpoint_url or None,
            config=BotoConfig(
                connect_timeout=self._connect_timeout_s,
                read_timeout=self._config.timeout,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=int(self.threads.total_tokens),
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # The environment's are for whoever wants them: nothing else here obeys HTTP_PROXY, and a store on this
                # machine cannot be reached through one.
                proxies={},
                # Newer checksums only where an operation demands one: radosgw and others do not know them.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        private: Any = client  # botocore has no public way to its session
        ask_for_quick_acks(private._endpoint.http_session)
        return client, sources, sources.snapshot()

    def _make_session(self, endpoint: str) -> URLLib3Session:
        if endpoint.startswith("https:"):
            self._tls = tls_context(ca_bundle())
        return open_session((self._connect_timeout_s, self._config.timeout), int(self.threads.total_tokens))

    async def _refresh_credentials(self) -> None:
        """Take a new snapshot; botocore fetches new temporary credentials 15 minutes before the old ones end."""
        client = await self._connect()
        sources = self._sources
        assert sources is not None  # set together with the client
        try:
            with trio.fail_after(_CREDENTIALS_S), translated():
                snapshot = await trio.to_thread.run_sync(sources.snapshot, abandon_on_cancel=True)
        except (trio.TooSlowError, Unavailable) as error:
            self._forget_credentials(error)
        self._sign_with(client, snapshot)

    def _sign_with(self, client: S3Client, snapshot: _Snapshot) -> None:
        if self._signers is None or self._signed_with != snapshot:
            endpoint = self._config.public_endpoint_url or self._config.endpoint_url or client.meta.endpoint_url
            signer = partial(Presigner, endpoint, self.bucket, client.meta.region_name)
            reached = self._config.endpoint_url or client.meta.endpoint_url  # by us, not by clients
            inside = partial(Presigner, reached, self.bucket, client.meta.region_name)
            self._signers = Signers(signer(snapshot.uploads), inside(snapshot.uploads), signer(snapshot.own))
            assert self._http is not None  # made together with the client
            presigner = inside(snapshot.own)
            self._quick = QuickRequests(self._http, presigner)
            self.close()
            self._http_get = HttpGet(
                presigner,
                reached,
                timeout_s=self._config.timeout,
                max_connections=int(self.threads.total_tokens),
                tls=self._tls,
            )
            self._signed_with = snapshot

    def _forget_credentials(self, cause: Exception) -> NoReturn:
        self._signers = None
        self._why_not = cause.detail if isinstance(cause, Unavailable) else "finding its credentials took too long"
        raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S) from cause

    def _note(self, available: bool, cause: str = "") -> None:
        if available:
            self._heard_at = trio.current_time()
            self._reached = True
            self._outages.available()
        else:
            self._cause = cause
            self._outages.unavailable(cause)
        if available != self._answers:
            self._answers = available
            self._changed.set()
            self._changed = trio.Event()

    @property
    def _connect_timeout_s(self) -> float:
        return min(self._config.timeout, _MAX_CONNECT_S)


def _detail(error: MediaError) -> str:
    return error.detail if isinstance(error, Unavailable) else str(error)


def _credentials_of(session: boto3.Session) -> Credentials:
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return credentials


def _frozen(credentials: Credentials) -> SigningCredentials:
    frozen = credentials.get_frozen_credentials()
    return SigningCredentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
