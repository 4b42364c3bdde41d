"""Browser sessions of operators, their forms, and the tokens in these.

A session begins with an operator's token and ends after a while, with the token's revocation, or with the process. The
cookie is no use to other sites (``SameSite=Strict``), and each form carries a token that other sites cannot read.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from hashlib import sha256

import trio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from avion_media.common.credentials import fingerprint

COOKIE = "avion_media_operator"
SESSION_S = 8 * 3600.0  # a shift
_MAX_SESSIONS = 1000
_MAX_NAME = 40
_MAX_WRONG = 5  # wrong tokens of one address in a row
_FORGIVEN_S = 10.0  # after this time, one of them no longer counts
_MAX_ADDRESSES = 1000
_MAX_BODY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class _Session:
    """A session: its end by Trio's clock, its token, and the name of its operator."""

    ends_at: float
    token: str
    name: str


class LoginAttempts:
    """Limits the wrong tokens of each address: a few at once, then one from time to time."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[float, float]] = {}  # how many still counted, and at what time

    def wait_s(self, address: str) -> float:
        """Return how many seconds this address must wait; 0 if it can try now."""
        return max(0.0, (self._counted(address) - _MAX_WRONG + 1) * _FORGIVEN_S)

    def refused(self, address: str) -> None:
        """Count a wrong token."""
        counted = self._counted(address) + 1
        self._refused.pop(address, None)
        while len(self._refused) >= _MAX_ADDRESSES:
            del self._refused[next(iter(self._refused))]  # the address whose last refusal is the oldest
        self._refused[address] = counted, trio.current_time()

    def _counted(self, address: str) -> float:
        counted, at = self._refused.get(address, (0.0, 0.0))
        return max(0.0, counted - (trio.current_time() - at) / _FORGIVEN_S)


class Sessions:
    """The sessions of one process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._open: dict[str, _Session] = {}
        self._accepts: Callable[[str], bool] = lambda _token: False

    def believe(self, accepts: Callable[[str], bool]) -> None:
        """Set which tokens are valid. Each request checks this, so a revoked token ends its sessions."""
        self._accepts = accepts

    def begin(self, response: Response, token: str, *, secure: bool, name: str = "") -> None:
        """Open a session and give its cookie to the browser. The caller has checked the token.

        ``name`` is the name that the operator entered. It goes into the audit log beside the token's fingerprint.
        """
        now = trio.current_time()
        self._open = {session_id: each for session_id, each in self._open.items() if each.ends_at > now}
        while len(self._open) >= _MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        session_id = secrets.token_urlsafe(32)
        self._open[session_id] = _Session(now + SESSION_S, token, "".join(filter(str.isprintable, name))[:_MAX_NAME])
        response.set_cookie(COOKIE, session_id, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=secure)

    def end(self, request: Request, response: Response) -> None:
        """End the request's session, if it has one."""
        self._open.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    def is_open(self, request: Request) -> bool:
        """Return whether the request belongs to a session of an operator."""
        session = self._open.get(request.cookies.get(COOKIE, ""))
        return session is not None and trio.current_time() < session.ends_at and self._accepts(session.token)

    def operator(self, request: Request) -> str:
        """Return the operator's name for the audit log; empty without an open session."""
        session = self._open.get(request.cookies.get(COOKIE, ""))
        if session is None or not self.is_open(request):
            return ""
        return f"{session.name or 'operator'} (token {fingerprint(session.token).hex()[:8]})"

    def form_token(self, request: Request) -> str:
        """Return the token that the forms on this browser's pages must have."""
        session_id = request.cookies.get(COOKIE, "")
        return hmac.new(self._key, session_id.encode(), sha256).hexdigest()

    def is_own_form(self, request: Request, token: object) -> bool:
        """Return whether a form comes from a page of this console, shown to this browser."""
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.form_token(request).encode())


async def read_body(request: Request) -> bytes:
    """Return the body of a request; empty if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            return b""
    return body


def chosen(query: Mapping[str, str], name: str, offered: Container[str]) -> str:
    """Return the value of a query or a form if it is offered; empty for any other, which counts as absent."""
    value = query.get(name, "")
    return value if value in offered else ""


async def read_form(request: Request) -> QueryParams:
    """Return the fields of an urlencoded form, which can have several values: none if it is none, or is too large."""
    return QueryParams((await read_body(request)).decode(errors="replace"))
