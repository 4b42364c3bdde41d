"""Reports one fetch of a remote media item: a span, its duration, its outcome by error type.

The span has the host name. No trace context is sent to remote servers.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from types import TracebackType

import trio

from avion_media.backends.remote import Fetched, RemoteUrl
from avion_media.common.errors import Deferred, Rejected, Unavailable
from avion_media.common.telemetry import Telemetry, instruments
from mediascrub import HEAD_BYTES, sniff


class ObservedFetch(AbstractContextManager["ObservedFetch"]):
    """Encloses a fetch. The caller reports success with `arrived`."""

    def __init__(self, telemetry: Telemetry, url: RemoteUrl, fd: int) -> None:
        self._telemetry = telemetry
        self._fd = fd
        self._size_bytes: int | None = None
        self._started = time.monotonic()
        self._block = telemetry.child_span(
            "GET",
            kind="client",
            http__request__method="GET",
            url__scheme=url.scheme,
            server__address=url.host,
            server__port=url.port,
        )

    def __enter__(self) -> ObservedFetch:
        self._span = self._block.__enter__()
        return self

    def arrived(self, fetched: Fetched | None) -> None:
        """Record a successful response; None: not modified."""
        self._size_bytes = None if fetched is None else fetched.size_bytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        outcome = _outcome(error)
        fmt = ""
        if error is None and self._size_bytes is None:
            outcome = "not_modified"
        elif self._size_bytes is not None:
            found = sniff(os.pread(self._fd, HEAD_BYTES, 0), size=self._size_bytes)
            fmt = found.format.value if found.format is not None else ""
            self._telemetry.count(instruments.REMOTE_RECEIVED, self._size_bytes)
        self._span.set(avion__remote__outcome=outcome)
        if error is not None:
            self._span.fail(outcome)
        self._telemetry.count(instruments.REMOTE_FETCHES, format=fmt, outcome=outcome)
        self._telemetry.record(instruments.REMOTE_DURATION, time.monotonic() - self._started, outcome=outcome)
        self._block.__exit__(None, None, None)


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "ok"
        case Rejected():
            return str(error.reason)
        case Deferred():
            return "deferred"
        case Unavailable():
            return "unavailable"
        case trio.Cancelled():
            return "cancelled"
    return "failed"
