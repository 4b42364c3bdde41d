"""Who may look into the running service, and act on it, through the admin port.

An operator shows a bearer token (`ADMIN__TOKEN`), or another proof that the gate accepts, such as a session.
Without a token the gate is open, which the configuration allows only on a loopback address or by an explicit setting.
Browsers reach loopback addresses too: hence the rules against foreign pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avion_media.credentials import bearer_token, fingerprint, is_among
from avion_media.net import is_loopback

Endpoint = Callable[[Request], Awaitable[Response]]
Fingerprints = Callable[[], Iterable[bytes]]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class OperatorGate:
    """Lets operators through: wrap each endpoint that is theirs with `required`.

    ``fingerprints`` gives those of the tokens that are valid now; without it every request is let through. With
    ``local_only`` such an open gate demands that the host was asked for by a loopback name: a foreign name that was
    made to point here (DNS rebinding) reaches nothing. ``session`` says whether a request carries something else that
    proves an operator; it is asked after the token.
    """

    def __init__(
        self,
        fingerprints: Fingerprints | None = None,
        *,
        local_only: bool = False,
        session: Callable[[Request], bool] | None = None,
    ) -> None:
        self._fingerprints = fingerprints
        self._local_only = local_only
        self._session = session

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return self._fingerprints is None

    def accepts(self, token: str) -> bool:
        """Whether this token is an operator's. For a login form; endpoints use `required`."""
        return self._fingerprints is None or is_among(fingerprint(token), self._fingerprints())

    def is_operator(self, request: Request) -> bool:
        """Whether the request proves to be an operator's, by its token or its session."""
        if self.is_open:
            return True
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and self.accepts(token):
            return True
        return self._session is not None and self._session(request)

    def describe(self, request: Request) -> str:
        """Return who sends a request without a session, for the audit log: the token's fingerprint, or its address."""
        token = bearer_token(request.headers.get("authorization", ""))
        if token is not None and not self.is_open:
            return f"token {fingerprint(token).hex()[:8]}"
        return f"anyone at {request.client.host}" if request.client is not None else "anyone"

    def refusal(self, request: Request) -> Response | None:
        """Return the response to a refused request: 401, or 403 for one that a foreign page made a browser send."""
        if is_cross_site(request) or (self.is_open and self._local_only and not is_asked_locally(request)):
            return _refused(403, "cross-site request refused")
        if not self.is_operator(request):
            return _refused(401, "operator token required", {"WWW-Authenticate": 'Bearer realm="avion-media"'})
        return None

    def required(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint, for operators only. Its answers are not to be stored."""

        async def guarded(request: Request) -> Response:
            refusal = self.refusal(request)
            if refusal is not None:
                return refusal
            response = await endpoint(request)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded


def is_cross_site(request: Request) -> bool:
    """Whether a page of another origin made the browser send this, and it would change something.

    Programs send neither of the two headers; all present browsers send them with every such request.
    """
    if request.method in _SAFE_METHODS:
        return False
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()


def is_asked_locally(request: Request) -> bool:
    """Whether the ``Host`` is ``localhost`` or a loopback address."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return is_loopback(host)


def _refused(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": error}, status, headers={"Cache-Control": "no-store", **(headers or {})})
