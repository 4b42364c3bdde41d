"""What signs and sends requests: the signers, the frequent requests, and botocore's client for all others.

Each change of the credentials makes new signers.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.session
import trio
from botocore.config import Config as BotoConfig
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import get_cert_path

from avion_media.backends.settings import S3Config
from avion_media.backends.store.errors import NO_CREDENTIALS, translated
from avion_media.common.clock import utc_now
from avion_media.common.errors import Dependency, MediaError, Unavailable
from trio_s3 import ATTEMPTS, Http, Presigner, Requests, SigningCredentials, upload_guard

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from types_boto3_s3 import S3Client

T = TypeVar("T")

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


class Clients:
    """The clients of one store. The first `refresh` makes them, and later ones sign with new credentials."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._client: S3Client | None = None
        self._sources: list[Credentials] = []  # the service's own, and those that sign uploads
        self._signers: Signers | None = None
        self._signed_with: list[SigningCredentials] = []
        self._http: Http | None = None
        self._requests: Requests | None = None
        self._why_not = NO_CREDENTIALS

    @property
    def connect_timeout_s(self) -> float:
        """Timeout of connecting, in seconds."""
        return min(self._config.timeout, _MAX_CONNECT_S)

    @property
    def signers(self) -> Signers:
        """The signers for the present credentials. Raises Unavailable while there are none."""
        return self._present(self._signers)

    @property
    def requests(self) -> Requests:
        """The frequent requests, on Trio. Raises Unavailable before credentials were found."""
        return self._present(self._requests)

    @property
    def botocore(self) -> S3Client:
        """The client for all other requests. Raises Unavailable before credentials were found."""
        return self._present(self._client)

    def close(self) -> None:
        """Close the idle connections."""
        if self._http is not None:
            self._http.close()

    async def refresh(self) -> None:
        """Look for new credentials; botocore fetches temporary ones 15 minutes before the old ones end. Raises
        Unavailable while there are none."""
        if self._client is None:
            client, self._sources, credentials, tls = await self._found(self._make_client)
            self._http = Http(
                self._reached(client),
                connect_timeout_s=self.connect_timeout_s,
                timeout_s=self._config.timeout,
                tls=tls,
            )
            self._client = client
        else:
            credentials = await self._found(partial(_frozen, self._sources))
        self._sign_with(self._client, credentials)

    async def _found(self, find: Callable[[], T]) -> T:
        """Find credentials in a thread, because that can read files or query a metadata service."""
        try:
            with trio.fail_after(_CREDENTIALS_S), translated():
                return await trio.to_thread.run_sync(find, abandon_on_cancel=True)
        except (trio.TooSlowError, MediaError) as error:
            slow = isinstance(error, trio.TooSlowError)
            self._why_not = "finding its credentials took too long" if slow else getattr(error, "detail", str(error))
            self._signers = None
            raise self._no_credentials() from error

    def _make_client(self) -> tuple[S3Client, list[Credentials], list[SigningCredentials], ssl.SSLContext | None]:
        session = boto3.Session(region_name=self._config.region)
        own = _credentials_of(session)
        profile = self._config.signing_profile
        sources = [own, _credentials_of(boto3.Session(profile_name=profile)) if profile else own]
        client: S3Client = session.client(
            "s3",
            endpoint_url=self._config.endpoint_url or None,
            config=BotoConfig(
                connect_timeout=self.connect_timeout_s,
                read_timeout=self._config.timeout,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=self._config.threads,
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
        tls = None
        if self._reached(client).startswith("https:"):
            tls = ssl.create_default_context(cafile=ca_bundle() or get_cert_path(True))
        return client, sources, _frozen(sources), tls

    def _sign_with(self, client: S3Client, credentials: list[SigningCredentials]) -> None:
        if self._signers is None or self._signed_with != credentials:
            own, of_uploads = credentials
            region = client.meta.region_name
            inside = partial(Presigner, self._reached(client), self._config.bucket, region)
            public_url = self._config.public_endpoint_url or self._reached(client)
            public = partial(Presigner, public_url, self._config.bucket, region)
            guard = upload_guard(self._config.upload_acl, deny_copy=self._config.upload_deny_copy)
            self._signers = Signers(public(of_uploads, guard), inside(of_uploads, guard), public(own))
            self._requests = Requests(self._present(self._http), inside(own), utc_now)
            self._signed_with = credentials

    def _reached(self, client: S3Client) -> str:
        """Return the address of the store for this service."""
        return self._config.endpoint_url or client.meta.endpoint_url

    def _present(self, found: T | None) -> T:
        if found is None:
            raise self._no_credentials()
        return found

    def _no_credentials(self) -> Unavailable:
        return Unavailable(Dependency.STORE, self._why_not, retry_after_s=_NO_CREDENTIALS_PAUSE_S)


def ca_bundle() -> str:
    """Return the file of certificate authorities that botocore uses for the store; empty for the usual ones."""
    configured = botocore.session.Session().get_config_variable("ca_bundle")
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE", ""))


def _credentials_of(session: boto3.Session) -> Credentials:
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return credentials


def _frozen(sources: list[Credentials]) -> list[SigningCredentials]:
    """Return the credentials of all sources at this time. Can block, because botocore renews temporary ones."""
    found = [each.get_frozen_credentials() for each in sources]
    return [SigningCredentials(each.access_key or "", each.secret_key or "", each.token or "") for each in found]
