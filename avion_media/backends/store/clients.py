"""What signs and sends requests: the signers, the frequent requests, and botocore's client for all others.

Signers are made again when the credentials change.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import botocore.session
import trio
from botocore.config import Config as BotoConfig
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import get_cert_path

from avion_media.backends.settings import S3Config
from avion_media.backends.store.errors import NO_CREDENTIALS, translated
from avion_media.backends.store.http import Http
from avion_media.backends.store.presign import Presigner, SigningCredentials
from avion_media.backends.store.quick_acks import ask_for_quick_acks
from avion_media.backends.store.requests import Requests
from avion_media.common.errors import Dependency, Unavailable

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from types_boto3_s3 import S3Client

ATTEMPTS = 2  # the second is for a kept-alive connection that the store had closed; tasks bring their own retries
_MAX_CONNECT_S = 3.0
_CREDENTIALS_S = 10.0  # boto3's chain may ask a metadata service, and gives up on it after a second or two
_NO_CREDENTIALS_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Signers:
    """The signers of URLs. Uploads can have credentials of their own, which may only PUT to ``incoming/``."""

    uploads: Presigner
    uploads_inside: Presigner
    """As ``uploads``, but for the service's own address of the store, to test what clients can do."""
    downloads: Presigner


@dataclass(frozen=True, slots=True)
class _Sources:
    """The sources of the credentials. botocore renews temporary ones. Reading them can block."""

    own: Credentials
    uploads: Credentials

    def snapshot(self) -> _Snapshot:
        return _Snapshot(_frozen(self.own), _frozen(self.uploads))


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The credentials of both sources at one time."""

    own: SigningCredentials
    uploads: SigningCredentials


class Clients:
    """The clients of one store. `connect` makes them at its first call, and `refresh` again for new credentials."""

    def __init__(self, config: S3Config, max_connections: int) -> None:
        self._config = config
        self._max_connections = max_connections
        self._connecting = trio.Lock()
        self._client: S3Client | None = None
        self._sources: _Sources | None = None
        self._signers: Signers | None = None
        self._signed_with: _Snapshot | None = None
        self._http: Http | None = None
        self._requests: Requests | None = None
        self._why_not = NO_CREDENTIALS
        self._no_connect_before = float("-inf")

    @property
    def connect_timeout_s(self) -> float:
        """Timeout of connecting, in seconds."""
        return min(self._config.timeout, _MAX_CONNECT_S)

    @property
    def signers(self) -> Signers:
        """The signers for the present credentials. Raises Unavailable while there are none."""
        if self._signers is None:
            raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S)
        return self._signers

    @property
    def http(self) -> Http:
        """The connections of ``requests``. Available after `connect`."""
        assert self._http is not None  # made together with the client
        return self._http

    @property
    def requests(self) -> Requests:
        """The frequent requests, on Trio. Available after `connect`."""
        assert self._requests is not None  # made together with the client
        return self._requests

    def close(self) -> None:
        """Close the idle connections."""
        if self._http is not None:
            self._http.close()

    async def connect(self) -> S3Client:
        """Return botocore's client. Raises Unavailable while there are no credentials."""
        return self._client or await self._connect()

    async def _connect(self) -> S3Client:
        """Find credentials and make the client. In a thread: both can read files or query a metadata service."""
        async with self._connecting:
            if self._client is not None:
                return self._client
            if trio.current_time() < self._no_connect_before:  # otherwise every call would try all sources
                raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S)
            try:
                with trio.fail_after(_CREDENTIALS_S), translated():
                    client, sources, snapshot = await trio.to_thread.run_sync(self._make_client, abandon_on_cancel=True)
                    endpoint = self._config.endpoint_url or client.meta.endpoint_url
                    tls = await trio.to_thread.run_sync(_tls_for, endpoint, abandon_on_cancel=True)
            except (trio.TooSlowError, Unavailable) as error:
                self._no_connect_before = trio.current_time() + _NO_CREDENTIALS_PAUSE_S
                self._forget_credentials(error)
            self._client, self._sources = client, sources
            self._http = Http(
                endpoint, connect_timeout_s=self.connect_timeout_s, timeout_s=self._config.timeout, tls=tls
            )
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
                connect_timeout=self.connect_timeout_s,
                read_timeout=self._config.timeout,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=self._max_connections,
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # The environment's proxies are ignored: nothing else here obeys HTTP_PROXY, and a store on this
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

    async def refresh(self) -> None:
        """Take a new snapshot; botocore fetches new temporary credentials 15 minutes before the old ones end."""
        client = await self.connect()
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
            signer = partial(Presigner, endpoint, self._config.bucket, client.meta.region_name)
            reached = self._config.endpoint_url or client.meta.endpoint_url  # by us, not by clients
            inside = partial(Presigner, reached, self._config.bucket, client.meta.region_name)
            self._signers = Signers(signer(snapshot.uploads), inside(snapshot.uploads), signer(snapshot.own))
            self._requests = Requests(self.http, inside(snapshot.own))
            self._signed_with = snapshot

    def _forget_credentials(self, cause: Exception) -> NoReturn:
        self._signers = None
        self._why_not = cause.detail if isinstance(cause, Unavailable) else "finding its credentials took too long"
        raise Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S) from cause


def _tls_for(endpoint: str) -> ssl.SSLContext | None:
    """Return the settings for an encrypted endpoint. Reads files."""
    if not endpoint.startswith("https:"):
        return None
    return ssl.create_default_context(cafile=ca_bundle() or get_cert_path(True))


def ca_bundle() -> str:
    """Return the file of certificate authorities that botocore uses for the store; empty for the usual ones."""
    configured = botocore.session.Session().get_config_variable("ca_bundle")
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE", ""))


def _credentials_of(session: boto3.Session) -> Credentials:
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return credentials


def _frozen(credentials: Credentials) -> SigningCredentials:
    frozen = credentials.get_frozen_credentials()
    return SigningCredentials(frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
