"""Browser sessions of operators, and the tokens in their forms.

A session begins with an operator's token and ends after a while, with the token's revocation, or with the process. The
cookie is no use to other sites (``SameSite=Strict``), and each form carries a token that other sites cannot read.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256

import trio
from starlette.requests import Request
from starlette.responses import Response

COOKIE = "avion_media_operator"
SESSION_S = 8 * 3600.0  # a shift
_MAX_SESSIONS = 1000


class Sessions:
    """The sessions of one process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._open: dict[str, tuple[float, str]] = {}  # id -> when it ends, and the token it began with
        self._accepts: Callable[[str], bool] = lambda _token: False

    def believe(self, accepts: Callable[[str], bool]) -> None:
        """Say which tokens are valid now. Asked at each request: a revoked token ends its sessions."""
        self._accepts = accepts

    def begin(self, response: Response, token: str, *, secure: bool) -> None:
        """Open a session and give its cookie to the browser. The caller has checked the token."""
        now = trio.current_time()
        self._open = {name: each for name, each in self._open.items() if each[0] > now}
        while len(self._open) >= _MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        name = secrets.token_urlsafe(32)
        self._open[name] = (now + SESSION_S, token)
        response.set_cookie(COOKIE, name, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=secure)

    def end(self, request: Request, response: Response) -> None:
        """Close the request's session, if it has one."""
        self._open.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    def is_open(self, request: Request) -> bool:
        """Whether the request belongs to a session of an operator."""
        ends, token = self._open.get(request.cookies.get(COOKIE, ""), (0.0, ""))
        return trio.current_time() < ends and self._accepts(token)

    def form_token(self, request: Request) -> str:
        """What the forms on this browser's pages must carry."""
        name = request.cookies.get(COOKIE, "")
        return hmac.new(self._key, name.encode(), sha256).hexdigest()

    def is_own_form(self, request: Request, token: object) -> bool:
        """Whether a form comes from one of our own pages, shown to this browser."""
        return isinstance(token, str) and hmac.compare_digest(token.encode(), self.form_token(request).encode())
