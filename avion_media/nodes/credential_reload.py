"""Certificates, callers and tokens in files: read at the start, and reloaded when they change."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import trio

from avion_media.common.credentials import Person, fingerprint, read_tokens, token_name
from avion_media.common.settings import PREFIX
from avion_media.servers.api.callers import Callers, parse_callers
from avion_media.servers.settings import AdminConfig, GrpcConfig, ServerSettings, TlsSection
from avion_media.workers.cdn import check_files
from avion_media.workers.endpoints import Endpoint, parse_endpoints
from avion_media.workers.settings import WebhooksConfig
from trio_telemetry import get_logger

_POLL_S = 2.0
_LOG_PERIOD_S = 60.0  # while files stay unreadable
_log = get_logger(path="credentials")
T = TypeVar("T")


class ReloadingFiles(Generic[T]):
    """A value that ``read`` makes of some files. The constructor raises what the first ``read`` raises.

    Kubernetes replaces mounted secrets by swapping a symbolic link, so versions are compared behind the link.

    If a later version cannot be read, the error is logged, the previous value stays, and each poll tries again. The
    previous value has no time limit: to close the port on all replicas, minutes after an operator's mistake, would be
    worse than the mistake. The log repeats the error once a minute.
    """

    def __init__(
        self, paths: Iterable[str], read: Callable[[], T], names: Callable[[T], list[str]] | None = None
    ) -> None:
        """``names`` returns whose tokens a value has, for the log: one name for each token."""
        self._paths = tuple(path for path in paths if path)
        self._read = read
        self._names = names
        self._failing_since: float | None = None
        self._logged_at = -math.inf
        self._current = self._versions()  # the version of ``value``
        self.value = read()

    @property
    def is_current(self) -> bool:
        """Whether ``value`` is of the last version."""
        return self._failing_since is None

    async def watch(self, changed: Callable[[], None] | None = None) -> NoReturn:
        """Poll the files, and call ``changed`` after each new value. A cancel leaves the present value."""
        while True:
            await trio.sleep(_POLL_S)
            if await self.reload_if_changed() and changed is not None:
                changed()

    async def reload_if_changed(self) -> bool:
        """Read the files unless ``value`` is their present version. Return whether it is a new one.

        After a cancel the next poll reads them.
        """
        found = await trio.to_thread.run_sync(self._versions)
        if found == self._current:
            return False
        try:
            self.value = await trio.to_thread.run_sync(self._read)
        except (OSError, ValueError) as error:
            self._log_failure(error)
            return False
        self._current = found  # only now: a version that was not read must be tried again
        self._failing_since = None
        names = {} if self._names is None else {"tokens_of": self._names(self.value)}
        _log.info("credentials.reloaded", files=list(self._paths), **names)
        return True

    def _log_failure(self, error: Exception) -> None:
        """Log the first failure in a row at once, and then one a minute."""
        now = trio.current_time()
        if self._failing_since is None:
            self._failing_since, self._logged_at = now, -math.inf
        if now - self._logged_at >= _LOG_PERIOD_S:
            self._logged_at = now
            for_s = round(now - self._failing_since)
            _log.error("credentials.unreadable", files=list(self._paths), error=str(error), for_s=for_s)

    def _versions(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(map(_version, self._paths))


def _version(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    # The time of the last change cannot be set: `cp --preserve` and rsync set the other one.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


# -- The files


def tls_context(config: TlsSection) -> ssl.SSLContext:
    """The server's side of TLS. With a client CA, clients must present a certificate; with ``any`` a token will do."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2" if isinstance(config, GrpcConfig) else "http/1.1"])
    context.load_cert_chain(config.tls_cert, config.tls_key or None)
    if config.tls_client_ca:
        context.load_verify_locations(config.tls_client_ca)
        is_optional = isinstance(config, GrpcConfig) and config.auth == "any"
        context.verify_mode = ssl.CERT_OPTIONAL if is_optional else ssl.CERT_REQUIRED
    return context


def open_tls(config: TlsSection) -> ReloadingFiles[ssl.SSLContext] | None:
    """Return the context for new connections, or None without a certificate. Raises `OSError` for bad files."""
    if not config.tls_cert:
        return None
    return ReloadingFiles((config.tls_cert, config.tls_key, config.tls_client_ca), lambda: tls_context(config))


def open_callers(config: GrpcConfig) -> ReloadingFiles[Callers] | None:
    """Return the callers, or None without authentication. Raises `OSError` or `InvalidCallers` for a bad file."""
    if not config.authenticates:
        return None
    path = config.callers_file
    return ReloadingFiles(
        (path,),
        lambda: parse_callers(Path(path).read_text(encoding="utf-8")),
        lambda callers: [each.name for each in callers for _ in each.tokens],
    )


def open_operators(config: AdminConfig) -> ReloadingFiles[dict[bytes, Person]] | None:
    """Return the operators by the fingerprints of their tokens, or None without authentication.

    Raises `OSError` or ValueError.
    """
    if not config.has_tokens:
        return None
    return ReloadingFiles(
        (config.token_file,),
        lambda: _operator_tokens(config),
        lambda operators: [person.name or token_name(key) for key, person in operators.items()],
    )


def open_endpoints(config: WebhooksConfig) -> ReloadingFiles[dict[str, Endpoint]]:
    """Return the endpoints of webhooks. Raises `OSError` or ValueError for a bad file."""
    path = config.endpoints_file
    return ReloadingFiles((path,), lambda: parse_endpoints(Path(path).read_text(encoding="utf-8")))


def _operator_tokens(config: AdminConfig) -> dict[bytes, Person]:
    tokens = {config.token.get_secret_value(): Person()} if config.token else {}
    if config.token_file:
        tokens |= read_tokens(config.token_file)
    return {fingerprint(token): person for token, person in tokens.items()}


def problems_with_files(config: ServerSettings, roles: frozenset[str]) -> list[str]:
    """Return what would keep the ports from opening, one line for each setting."""
    checks: list[tuple[str, Callable[[], object]]] = [("ADMIN__TOKEN_FILE", lambda: open_operators(config.admin))]
    checks.append(("ADMIN__TLS_CERT", lambda: open_tls(config.admin)))
    if "http" in roles:
        checks.append(("HTTP__TLS_CERT", lambda: open_tls(config.http)))
    if "grpc" in roles:
        checks.append(("GRPC__TLS_CERT", lambda: open_tls(config.grpc)))
        checks.append(("GRPC__CALLERS_FILE", lambda: open_callers(config.grpc)))
    if "delete" in roles:
        setting = "CDN__PURGE_HEADERS_FILE" if config.cdn.purge == "template" else "CDN__TOKEN_FILE"
        checks.append((setting, lambda: check_files(config.cdn)))
    if "webhooks" in roles and config.webhooks.endpoints_file:
        checks.append(("WEBHOOKS__ENDPOINTS_FILE", lambda: open_endpoints(config.webhooks)))
    problems = []
    for setting, check in checks:
        try:
            check()
        except (OSError, ValueError) as error:
            problems.append(f"{PREFIX}{setting}: {_in_words(error)}")
    return problems


def _in_words(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
