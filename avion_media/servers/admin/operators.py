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


@dataclass(frozen=True)
class OperatorGate:
    """Admits operators. Wrap each endpoint for operators with `required`.

    ``fingerprints`` returns those of the valid tokens; without it every request is admitted. With ``local_only``, such
    an open gate accepts only a ``Host`` that is a loopback name, so that another name that resolves to this address
    (DNS rebinding) reaches nothing. ``session`` returns whether a request carries another proof; it is checked after
    the token.
    """

    fingerprints: Callable[[], Iterable[bytes]] | None = None
    _: KW_ONLY
    local_only: bool = False
    session: Callable[[Request], bool] | None = None

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return self.fingerprints is None

    def accepts(self, token: str) -> bool:
        """Return whether this token is an operator's. For a login form; endpoints use `required`."""
        return self.fingerprints is None or is_among(fingerprint(token), self.fingerprints())

    def is_operator(self, request: Request) -> bool:
        """Return whether the request authenticates an operator, by token or session."""
        if self.is_open:
            return True
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and self.accepts(token):
            return True
        return self.session is not None and self.session(request)

    def describe(self, request: Request) -> str:
        """Return the sender of a request without a session, for the audit log: token's fingerprint, or address."""
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and not self.is_open:
            return f"token {fingerprint(token).hex()[:8]}"
        return f"anyone at {request.client.host}" if request.client is not None else "anyone"

    def required(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint for operators: others get 401, cross-site requests 403. No response may be stored."""

        async def guarded(request: Request) -> Response:
            if is_cross_site(request) or (self.is_open and self.local_only and not is_asked_locally(request)):
                response: Response = JSONResponse({"error": "cross-site request refused"}, 403)
            elif not self.is_operator(request):
                challenge = {"WWW-Authenticate": 'Bearer realm="avion-media"'}
                response = JSONResponse({"error": "operator token required"}, 401, headers=challenge)
            else:
                response = await endpoint(request)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded


def is_cross_site(request: Request) -> bool:
    """Return whether a page of another origin made the browser send a request that would change something.

    Programs send neither of the two headers; all current browsers send them with every such request.
    """
    if request.method in _SAFE_METHODS:
        return False
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()


def is_asked_locally(request: Request) -> bool:
    """Return whether the ``Host`` is ``localhost`` or a loopback address."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return is_loopback(host)
