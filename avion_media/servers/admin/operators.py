"""Access control for operators on the admin port.

An operator presents a bearer token (`ADMIN__TOKEN`), or something else that the gate accepts, such as a session.
Without tokens the gate is open, which the configuration allows only on a loopback address, or by an explicit setting.
Browsers can reach loopback addresses, so requests of other sites are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avion_media.common.credentials import bearer_token, fingerprint, is_among
from avion_media.common.settings import is_loopback

Endpoint = Callable[[Request], Awaitable[Response]]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class OperatorGate:
    """Admits operators. Wrap each endpoint for operators with `required`.

    ``fingerprints`` returns those of the valid tokens; without it every request is admitted. With ``local_only``, such
    an open gate accepts only a ``Host`` that is a loopback name, so that another name that resolves to this address
    (DNS rebinding) reaches nothing. ``public_url`` is the address that browsers know the console by, if a proxy is in
    front. ``session`` returns whether a request carries another proof; it is checked after the token.
    """

    fingerprints: Callable[[], Iterable[bytes]] | None = None
    _: KW_ONLY
    local_only: bool = False
    public_url: str = ""
    session: Callable[[Request], Awaitable[bool]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return self.fingerprints is None

    def accepts(self, token: str) -> bool:
        """Return whether this token is an operator's. For a login form; endpoints use `required`."""
        return self.fingerprints is None or is_among(fingerprint(token), self.fingerprints())

    async def is_operator(self, request: Request) -> bool:
        """Return whether the request authenticates an operator, by token or session."""
        if self.is_open:
            return True
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and self.accepts(token):
            return True
        return self.session is not None and await self.session(request)

    def describe(self, request: Request) -> str:
        """Return the sender of a request without a session, for the audit log: token's fingerprint, or address."""
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and not self.is_open:
            return f"token {fingerprint(token).hex()[:8]}"
        return f"anyone at {request.client.host}" if request.client is not None else "anyone"

    def required(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint for operators: others get 401, cross-site requests 403. No response may be stored."""

        async def guarded(request: Request) -> Response:
            if self.is_foreign(request):
                response: Response = JSONResponse({"error": "cross-site request refused"}, 403)
            elif not await self.is_operator(request):
                challenge = {"WWW-Authenticate": 'Bearer realm="avion-media"'}
                response = JSONResponse({"error": "operator token required"}, 401, headers=challenge)
            else:
                response = await endpoint(request)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded

    def is_foreign(self, request: Request) -> bool:
        """Return whether another site makes a browser send it. Endpoints use `required`."""
        if is_cross_site(request, self.public_url):
            return True
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        is_own = is_loopback(host) or host == urlsplit(self.public_url).hostname
        return self.is_open and self.local_only and not is_own


def is_cross_site(request: Request, public_url: str = "") -> bool:
    """Return whether a page of another origin made the browser send a request that would change something.

    Browsers send ``Sec-Fetch-Site`` over https and on loopback; pages cannot change it, and no proxy makes it wrong.
    Without it the ``Origin`` must be that of ``public_url``, or the ``Host``. Programs send neither.
    """
    if request.method in _SAFE_METHODS:
        return False
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site not in ("same-origin", "none")
    if origin is None:
        return False
    scheme = origin.partition(":")[0]
    own = (public_url, f"{scheme}://{request.headers.get('host', '')}")  # a proxy in front may have ended TLS
    try:
        return _origin_of(origin) not in [_origin_of(each) for each in own if each]
    except ValueError:  # the port is no number of one
        return True


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
