"""Access control for operators on the admin port.

An operator presents a bearer token (`ADMIN__TOKEN`), has a session, or is named by a trusted proxy. The gate finds out
who it is and the role; the table of operations says which role an action needs.
Without tokens and proxy the gate is open, which the configuration allows only on a loopback address, or by an explicit
setting.
Browsers can reach loopback addresses, so requests of other sites are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from avion_media.common.credentials import (
    Person,
    Role,
    bearer_token,
    fingerprint,
    highest_role,
    printable_name,
    token_name,
)
from avion_media.common.settings import is_loopback
from trio_http1 import PROXIED

Endpoint = Callable[[Request], Awaitable[Response]]
_PERSON = "avion_media.person"  # in the scope of a request that was admitted
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class OperatorGate:
    """Admits operators. Wrap each endpoint for operators with `required`.

    ``tokens`` returns the operators by the fingerprints of the valid tokens; without it and ``role_header`` every
    request is admitted. With ``local_only``, such an open gate accepts only a ``Host`` that is a loopback name, so that
    another name that resolves to this address (DNS rebinding) reaches nothing. ``public_url`` is the address that
    browsers know the console by, if a proxy is in front. ``session`` returns whose session a request belongs to; it is
    asked after the token. ``user_header`` and ``role_header`` count last, and only from a trusted proxy.
    """

    tokens: Callable[[], Mapping[bytes, Person]] | None = None
    _: KW_ONLY
    local_only: bool = False
    public_url: str = ""
    session: Callable[[Request], Awaitable[Person | None]] | None = None
    user_header: str = ""
    role_header: str = ""

    @property
    def is_open(self) -> bool:
        """Whether every request is an operator's."""
        return self.tokens is None and not self.role_header

    def accepts(self, token: str) -> bool:
        """Return whether this token is an operator's. For a login form; endpoints use `required`."""
        return self.is_open or self._by_token(token) is not None

    async def find(self, request: Request) -> Person | None:
        """Return the operator who sends the request, by token, session or proxy; None if it proves nobody."""
        if self.is_open:
            return Person(f"anyone at {request.client.host}" if request.client is not None else "anyone")
        token = bearer_token(request.headers.get("authorization", ""))
        found = None if token is None else self._by_token(token)
        if found is None and self.session is not None:
            found = await self.session(request)
        return found or self._by_proxy(request)

    def _by_token(self, token: str) -> Person | None:
        key = fingerprint(token)
        found = None if self.tokens is None else self.tokens().get(key)
        if found is None:
            return None
        shown = token_name(key)
        return Person(f"{found.name} ({shown})" if found.name else shown, found.role)

    def _by_proxy(self, request: Request) -> Person | None:
        if not self.role_header or not request.scope.get(PROXIED):
            return None
        name = printable_name(request.headers.get(self.user_header, ""))
        role = highest_role(request.headers.get(self.role_header, ""))
        return Person(f"{name} (proxy)", role) if name and role is not None else None

    def required(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint for operators: others get 401, cross-site requests 403. No response may be stored.

        The endpoint finds the operator with `person_of`.
        """

        async def guarded(request: Request) -> Response:
            if self.is_foreign(request):
                response: Response = JSONResponse({"error": "cross-site request refused"}, 403)
            elif (person := await self.find(request)) is None:
                challenge = {"WWW-Authenticate": 'Bearer realm="avion-media"'}
                response = JSONResponse({"error": "operator token required"}, 401, headers=challenge)
            else:
                request.scope[_PERSON] = person
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


def person_of(request: Request) -> Person:
    """Return who sends a request that an `OperatorGate` has admitted; somebody without a right for any other."""
    found: Person = request.scope.get(_PERSON, Person("nobody", Role.VIEWER))
    return found


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
