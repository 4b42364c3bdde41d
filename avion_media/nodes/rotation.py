"""Certificates, callers and tokens in files: read at the start, and again whenever they change."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

import trio

from avion_media.api.callers import Callers, parse_callers
from avion_media.config import PREFIX, AdminConfig, Config, GrpcConfig
from avion_media.credentials import fingerprint, read_tokens
from avion_media.telemetry import get_logger

_LOOK_EVERY_S = 2.0
_LOG_EVERY_S = 60.0  # while files stay unreadable
_log = get_logger(path="credentials")
T = TypeVar("T")


class FromFiles(Generic[T]):
    """What some files say. ``read`` makes it of them; what it raises at first is the caller's to handle.

    Kubernetes replaces mounted secrets by swapping a symbolic link: files are told apart by what the link leads to.

    A later version that cannot be read is logged, the former value stays, and each look tries again until a read
    succeeds. The former value has no time limit: closing the port minutes after an operator's slip, on all replicas at
    once, would be worse than the slip. The log repeats the error for as long as it lasts.
    """

    def __init__(self, paths: Iterable[str], read: Callable[[], T]) -> None:
        self._paths = tuple(path for path in paths if path)
        self._read = read
        self._failing_since: float | None = None
        self._logged_at = -math.inf
        self._current = self._look()  # the version of ``value``
        self.value = read()

    async def watch(self) -> NoReturn:
        """Look again and again. A cancel leaves the present value."""
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            await self.look_again()

    async def look_again(self) -> None:
        """Read the files unless ``value`` is their present version. After a cancel they are read the next time."""
        found = await trio.to_thread.run_sync(self._look)
        if found == self._current:
            return
        try:
            self.value = await trio.to_thread.run_sync(self._read)
        except (OSError, ValueError) as error:
            self._log_failure(error)
        else:
            self._current = found  # only now: a version that was not read must be tried again
            self._failing_since = None
            _log.info("credentials.read_again", files=list(self._paths))

    def _log_failure(self, error: Exception) -> None:
        """Log the first failure in a row at once, and then one a minute."""
        now = trio.current_time()
        if self._failing_since is None:
            self._failing_since, self._logged_at = now, -math.inf
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            for_s = round(now - self._failing_since)
            _log.error("credentials.unreadable", files=list(self._paths), error=str(error), for_s=for_s)

    def _look(self) -> tuple[tuple[int, int, int, int] | None, ...]:
        return tuple(map(_version, self._paths))


def _version(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    # The time of the last change cannot be set: `cp --preserve` and rsync set the other one.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


# -- What is read


def tls_context(config: GrpcConfig) -> ssl.SSLContext:
    """The server's side of TLS. With a client CA, clients must show a certificate, or may if a token does as well."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(config.tls_cert, config.tls_key or None)
    if config.tls_client_ca:
        context.load_verify_locations(config.tls_client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL if config.auth == "any" else ssl.CERT_REQUIRED
    return context


def open_tls(config: GrpcConfig) -> FromFiles[ssl.SSLContext] | None:
    """The context for new connections, or None without a certificate. `OSError` (`ssl.SSLError`) for bad files."""
    if not config.tls_cert:
        return None
    return FromFiles((config.tls_cert, config.tls_key, config.tls_client_ca), lambda: tls_context(config))


def open_callers(config: GrpcConfig) -> FromFiles[Callers] | None:
    """The callers, or None when nobody asks who calls. `OSError` or `InvalidCallers` for a bad file."""
    if not config.authenticates:
        return None
    path = config.callers_file
    return FromFiles((path,), lambda: parse_callers(Path(path).read_text(encoding="utf-8")))


def open_operators(config: AdminConfig) -> FromFiles[tuple[bytes, ...]] | None:
    """Fingerprints of the operators' tokens, or None when none is asked for. `OSError` or ValueError for a bad file."""
    if not config.authenticates:
        return None
    return FromFiles((config.token_file,), lambda: _operator_tokens(config))


def _operator_tokens(config: AdminConfig) -> tuple[bytes, ...]:
    tokens = [config.token.get_secret_value()] if config.token else []
    if config.token_file:
        tokens += read_tokens(config.token_file)
    return tuple(map(fingerprint, tokens))


def problems_with_files(config: Config, roles: frozenset[str]) -> list[str]:
    """What would keep the ports from being opened, one line for each setting; told before anything starts."""
    checks: list[tuple[str, Callable[[], object]]] = [("ADMIN__TOKEN_FILE", lambda: open_operators(config.admin))]
    if "grpc" in roles:
        checks.append(("GRPC__TLS_CERT", lambda: open_tls(config.grpc)))
        checks.append(("GRPC__CALLERS_FILE", lambda: open_callers(config.grpc)))
    problems = []
    for setting, check in checks:
        try:
            check()
        except (OSError, ValueError) as error:
            problems.append(f"{PREFIX}{setting}: {error}")
    return problems
