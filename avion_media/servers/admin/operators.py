"""Access control for operators on the admin port.

An operator presents a bearer token (`ADMIN__TOKEN`), has a session, or is named by a trusted proxy. The gate finds out
who it is and the role; the table of operations says which role an action needs. One throttle limits how many wrong
tokens and cookies an address can try, and refusals are logged.
Without tokens and proxy the gate is open, which the configuration allows only on a loopback address, or by an explicit
setting.
Browsers can reach loopback addresses, so requests of other sites are refused.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
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
from avion_media.servers.admin.throttle import Throttle, TooManyAttempts
from avion_media.servers.refusals import RefusalLog
from trio_http1 import PROXIED

Endpoint = Callable[[Request], Awaitable[Response]]
_PERSON = "avion_media.person"  # in the scope of a request that was admitted
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}
_MAX_PATH = 100  # characters in the log


@dataclass(frozen=True)
class OperatorGate:
    """Admits operators. Wrap each endpoint for operators with `required`.

    ``tokens`` returns the operators by the fingerprints of the valid tokens; without it and ``role_header`` every
    request is admitted. With ``local_only``, such an open gate accepts only a ``Host`` that is a loopback name, so that
    another name that resolves to this address (DNS rebinding) reaches nothing. ``public_url`` is the address that
    browsers know the console by, if a proxy is in front. ``session_cookie`` returns what a request shows of a session,
    and ``session`` whose it is; they are asked after the token. ``user_header`` and ``role_header`` count last, and
    only from a trusted proxy. ``refused`` gets the address and the code of each request that was refused, except those
    of browsers that have not logged in.
    """

    tokens: Callable[[], Mapping[bytes, Person]] | None = None
    _: KW_ONLY
    local_only: bool = False
    public_url: str = ""
    session_cookie: Callable[[Request], str] = lambda _request: ""
    session: Callable[[Request], Awaitable[Person | None]] | None = None
    user_header: str = ""
    role_header: str = ""
    throttle: Throttle = field(default_factory=Throttle)
    refusals: RefusalLog = field(default_factory=lambda: RefusalLog("admin.refused"))
    refused: Callable[[str, str], None] = lambda _address, _code: None

    @property
    def is_open(self) -> bool:
        """Whether every request is an operator's."""
        return self.tokens is None and not self.role_header

    def accepts(self, request: Request, token: str) -> bool:
        """Return whether this token is an operator's. For a login form; endpoints use `required`.

        Raises `TooManyAttempts`.
        """
        return self.is_open or self._by_token(request, token) is not None

    async def find(self, request: Request) -> Person | None:
        """Return the operator who sends the request; None if it proves nobody, or must wait."""
        try:
            return await self._admitted(request)
        except TooManyAttempts:
            return None

    async def _admitted(self, request: Request) -> Person | None:
        """Return the operator who sends the request, by token, session or proxy. Raises `TooManyAttempts`."""
        if self.is_open:
            return Person(f"anyone at {address}" if (address := address_of(request)) else "anyone")
        try:
            return await self._by_proof(request) or self._by_proxy(request)
        except TooManyAttempts:
            found = self._by_proxy(request)
            if found is None:
                raise
            return found

    async def _by_proof(self, request: Request) -> Person | None:
        token = bearer_token(request.headers.get("authorization", ""))
        found = None if token is None else self._by_token(request, token)
        cookie = self.session_cookie(request)
        if found is None and cookie and self.session is not None:
            proof = fingerprint(cookie)  # a cookie is also a guess: its MAC follows from the token
            self._check(request, proof)
            found = await self.session(request)
            self._judged(request, proof, is_right=found is not None)
        return found

    def _by_token(self, request: Request, token: str) -> Person | None:
        if self.tokens is None:
            return None
        key = fingerprint(token)
        self._check(request, key)
        found = self.tokens().get(key)
        self._judged(request, key, is_right=found is not None)
        if found is None:
            return None
        shown = token_name(key)
        return replace(found, name=f"{found.name} ({shown})" if found.name else shown)

    def _check(self, request: Request, proof: bytes) -> None:
        try:
            self.throttle.check(address_of(request), proof)
        except TooManyAttempts:
            self._log_refusal(request, "too many wrong tokens", "RESOURCE_EXHAUSTED")
            raise

    def _judged(self, request: Request, proof: bytes, *, is_right: bool) -> None:
        if is_right:
            self.throttle.accepted(address_of(request), proof)
        else:
            self.throttle.refused(address_of(request), proof)
            self._log_refusal(request, "unknown token or session", "UNAUTHENTICATED")

    def _log_refusal(self, request: Request, reason: str, code: str) -> None:
        self.refused(address_of(request), code)
        self.refusals.refused(reason=reason, address=address_of(request), path=request.url.path[:_MAX_PATH])

    def _by_proxy(self, request: Request) -> Person | None:
        if not self.role_header or not request.scope.get(PROXIED):
            return None
        name = printable_name(request.headers.get(self.user_header, ""))
        role, may_discard = highest_role(request.headers.get(self.role_header, ""))
        return Person(f"{name} (proxy)", role, may_discard) if name and role is not None else None

    def required(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint for operators: others get 401, cross-site requests 403, and those that must wait 429. No
        response may be stored.

        The endpoint finds the operator with `person_of`.
        """

        async def guarded(request: Request) -> Response:
            try:
                response = await self._guarded(request, endpoint)
            except TooManyAttempts as error:
                wait = {"Retry-After": str(math.ceil(error.wait_s))}
                response = JSONResponse({"error": str(error)}, 429, headers=wait)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guarded

    async def _guarded(self, request: Request, endpoint: Endpoint) -> Response:
        if self.is_foreign(request):
            self._log_refusal(request, "cross-site request", "PERMISSION_DENIED")
            return JSONResponse({"error": "cross-site request refused"}, 403)
        person = await self._admitted(request)
        if person is None:
            shows_proof = "authorization" in request.headers or bool(self.session_cookie(request))
            if request.method not in _SAFE_METHODS and not shows_proof:  # a wrong proof was reported when it was judged
                self._log_refusal(request, "no token", "UNAUTHENTICATED")
            challenge = {"WWW-Authenticate": 'Bearer realm="avion-media"'}
            return JSONResponse({"error": "operator token required"}, 401, headers=challenge)
        request.scope[_PERSON] = person
        return await endpoint(request)

    def is_foreign(self, request: Request) -> bool:
        """Return whether another site makes a browser send it. Endpoints use `required`."""
        return is_cross_site(request, self.public_url) or (self.is_open and self._has_foreign_host(request))

    def _has_foreign_host(self, request: Request) -> bool:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        is_own = is_loopback(host) or host == urlsplit(self.public_url).hostname
        return self.local_only and not is_own

    def open_to_all(self, endpoint: Endpoint) -> Endpoint:
        """Wrap an endpoint that needs no operator. With ``local_only`` a foreign ``Host`` gets 403, with tokens too:
        the browser of an operator must not read it for another site.
        """

        async def guarded(request: Request) -> Response:
            if self._has_foreign_host(request):
                self._log_refusal(request, "foreign host", "PERMISSION_DENIED")
                return JSONResponse({"error": "this Host is not one of a loopback address"}, 403)
            return await endpoint(request)

        return guarded


def person_of(request: Request) -> Person:
    """Return who sends a request that an `OperatorGate` has admitted; somebody without a right for any other."""
    found: Person = request.scope.get(_PERSON, Person("nobody", Role.VIEWER))
    return found


def address_of(request: Request) -> str:
    """Return where a request comes from: an IPv4 address or IPv6 network, or whom the proxy names."""
    return request.client.host if request.client is not None else ""


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
