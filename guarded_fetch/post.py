"""One guarded POST to an untrusted server. Its body is not read, and a redirect is not followed."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import trio

from guarded_fetch.dial import DEFAULT_TIMEOUTS, Dialler, Resolve, resolve_by_system
from guarded_fetch.errors import FetchRejected, FetchUnavailable, ServerError
from guarded_fetch.exchange import Exchange, shortened
from guarded_fetch.fetcher import retry_after_s
from guarded_fetch.guard import AddressGuard, AddressRefused
from guarded_fetch.url import RemoteUrl

_MAX_WIRE_BYTES = 64 << 10  # the head of a response


class Poster:
    """Posts under the guard. Safe to use from many tasks. ``timeout_s`` limits a whole request."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        timeout_s: float,
        user_agent: str,
        accept: str = "*/*",
        resolve: Resolve = resolve_by_system,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        ssl_context = ssl_context or ssl.create_default_context()
        ssl_context.set_alpn_protocols(["http/1.1"])
        self._dialler = Dialler(guard, resolve, ssl_context, DEFAULT_TIMEOUTS)
        self._timeout_s = timeout_s
        self._user_agent = user_agent
        self._accept = accept

    async def post(self, url: RemoteUrl, body: bytes, headers: Sequence[tuple[str, str]]) -> int:
        """Send ``body``. Return the status if it is 2xx or 410.

        Raises `ServerError` for any other status, and `FetchUnavailable` if there is no response. A cancel closes
        the connection; the server may have the request.
        """
        try:
            with trio.fail_after(self._timeout_s):
                async with self._dialler.open_stream(url) as stream:
                    exchange = Exchange(stream, DEFAULT_TIMEOUTS, _MAX_WIRE_BYTES)
                    await exchange.ask(url, self._user_agent, headers, accept=self._accept, body=body)
        except trio.TooSlowError:
            raise FetchUnavailable(f"no response within {self._timeout_s:g} s") from None
        except (AddressRefused, FetchRejected) as error:
            raise FetchUnavailable(shortened(str(error))) from None
        status = exchange.status
        if 200 <= status < 300 or status == 410:
            return status
        asked_s = retry_after_s(exchange.header(b"retry-after"))
        raise ServerError(status, of_host=True, retry_after_s=asked_s)
