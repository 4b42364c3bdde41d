"""One guarded POST to an untrusted server. Its body is not read, and a redirect is not followed."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio

from avion_media.backends.remote.dial import DEFAULT_TIMEOUTS, Dialler, Resolve, resolve_by_system
from avion_media.backends.remote.errors import ServerError
from avion_media.backends.remote.exchange import Exchange, shortened
from avion_media.backends.remote.fetcher import retry_after_s
from avion_media.backends.remote.guard import AddressGuard, AddressRefused
from avion_media.backends.remote.url import RemoteUrl
from avion_media.common.errors import Dependency, Rejected, Unavailable

_MAX_WIRE_BYTES = 64 << 10  # the head of a response


class Poster:
    """Posts under the guard. Safe to use from many tasks. ``timeout_s`` limits a whole request."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        timeout_s: float,
        user_agent: str = "avion-media",
        resolve: Resolve = resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        ssl_context = ssl_context or ssl.create_default_context()
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._dialler = Dialler(guard, resolve, ssl_context, DEFAULT_TIMEOUTS)
        self._timeout_s = timeout_s
        self._user_agent = user_agent

    async def post(self, url: RemoteUrl, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Send ``body``. Return the status if it is 2xx or 410.

        Raises `ServerError` for any other status, and `Unavailable` (REMOTE) if there is no response. A cancel closes
        the connection; the server may have the request.
        """
        try:
            with trio.fail_after(self._timeout_s):
                async with self._dialler.open_stream(url) as stream:
                    exchange = Exchange(stream, DEFAULT_TIMEOUTS, _MAX_WIRE_BYTES)
                    await exchange.ask(url, self._user_agent, headers, body=body)
        except trio.TooSlowError:
            raise Unavailable(Dependency.REMOTE, f"no response within {self._timeout_s:g} s") from None
        except (AddressRefused, Rejected) as error:
            raise Unavailable(Dependency.REMOTE, shortened(str(error))) from None
        status = exchange.status
        if 200 <= status < 300 or status == 410:
            return status
        asked_s = retry_after_s(exchange.header(b"retry-after"))
        raise ServerError(status, of_host=True, asked_pause_s=asked_s)
