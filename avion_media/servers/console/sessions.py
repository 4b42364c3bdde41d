"""Browser sessions of operators, their forms, and the tokens in these.

A session begins with an operator's token and ends after a while, with the token's revocation, or with a log-out. Its
cookie says who it is and until when, with a MAC by the fingerprint of the token, which every replica has. So all of
them accept it, also while Redis is unavailable. Redis has the sessions that were ended before their time.

The cookie is no use to other sites (``SameSite=Strict``). Each form carries a hash of the cookie, which other sites
cannot read. A browser without a session gets a random cookie for that.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import trio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from avion_media.backends.redis import Redis
from avion_media.common.credentials import Person, fingerprint, printable_name, token_name
from avion_media.common.errors import Unavailable

COOKIE = "avion_media_operator"
SESSION_S = 8 * 3600.0  # a shift
_ENDED: Final = "media_console_ended"
_NEW_COOKIE = "avion_media.new_cookie"  # in the scope of a request that had none
_LOOK_UP_S = 1.0  # a Redis that hangs delays each page of the console for so long
_MAX_BODY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie says: its id, its end (Unix seconds), and the operator for the audit log."""

    session_id: str
    ends_at: float
    operator: Person


class Sessions:
    """The sessions of all replicas. ``tokens`` returns the operators by the fingerprints of their tokens.

    Without tokens there are no sessions.

    ``secure``: browsers send the cookie over https only, and accept it only from this host (``__Host-``), so that
    another service below the same domain cannot set it. Over plain HTTP, Safari would refuse such a name.
    """

    def __init__(
        self, redis: Redis, tokens: Callable[[], Mapping[bytes, Person]] | None = None, *, secure: bool = False
    ) -> None:
        self._redis = redis
        self._tokens = tokens or dict
        self._secure = secure
        self._cookie = f"__Host-{COOKIE}" if secure else COOKIE

    def begin(self, response: Response, token: str, *, name: str = "") -> str:
        """Open a session, give its cookie to the browser, and return the cookie. The caller has checked the token.

        ``name`` is the name that the operator entered. If the token has no name of its own, it goes into the audit log
        beside the token's fingerprint.
        """
        facts = secrets.token_urlsafe(16), time.time() + SESSION_S, printable_name(name)
        body = json.dumps(facts).encode().hex()
        cookie = f"{body}.{_mac(fingerprint(token), body)}"
        self._give(response, cookie, max_age=int(SESSION_S))
        return cookie

    def shown(self, request: Request) -> str:
        """Return the cookie with which a request claims to belong to a session; empty if it claims nothing."""
        cookie = request.cookies.get(self._cookie, "")
        return cookie if "." in cookie else ""  # without a MAC it is that of the login form

    async def end(self, request: Request, response: Response) -> None:
        """End the request's session on all replicas. While Redis is unavailable, only the browser forgets it."""
        session = self.of(request)
        if session is not None:
            with suppress(Unavailable):
                await self._redis.execute("ZREMRANGEBYSCORE", _ENDED, "-inf", str(time.time()))
                await self._redis.execute("ZADD", _ENDED, str(session.ends_at), session.session_id, when_full=True)
        response.delete_cookie(self._cookie, httponly=True, samesite="strict", secure=self._secure)

    def of(self, request: Request) -> Session | None:
        """Return the session that the request's cookie proves, whether it was ended or not."""
        body, _, mac = request.cookies.get(self._cookie, "").partition(".")
        for key, person in self._tokens().items():
            if hmac.compare_digest(mac.encode(), _mac(key, body).encode()):
                session_id, ends_at, name = json.loads(bytes.fromhex(body))
                if time.time() < ends_at:
                    shown = f"{person.name or name or 'operator'} ({token_name(key)})"
                    return Session(session_id, ends_at, replace(person, name=shown))
        return None

    async def operator(self, request: Request) -> Person | None:
        """Return whose open session the request belongs to. Without Redis a log-out is not known."""
        session = self.of(request)
        if session is None:
            return None
        with suppress(Unavailable), trio.move_on_after(_LOOK_UP_S):
            if await self._redis.execute("ZSCORE", _ENDED, session.session_id) is not None:
                return None
        return session.operator

    def form_token(self, request: Request) -> str:
        """Return the token that the forms on this browser's pages must have. `keep` must follow."""
        cookie = request.cookies.get(self._cookie) or request.scope.setdefault(_NEW_COOKIE, secrets.token_urlsafe(32))
        return _form_token(cookie)

    def keep(self, request: Request, response: Response) -> None:
        """Give the browser the cookie that belongs to the forms on this page, if it had none."""
        if _NEW_COOKIE in request.scope:
            self._give(response, request.scope[_NEW_COOKIE])

    def is_own_form(self, request: Request, token: object) -> bool:
        """Return whether a form comes from a page of this console, shown to this browser."""
        cookie = request.cookies.get(self._cookie)
        if not cookie or not isinstance(token, str):
            return False
        return hmac.compare_digest(token.encode(), _form_token(cookie).encode())

    def _give(self, response: Response, cookie: str, *, max_age: int | None = None) -> None:
        response.set_cookie(
            self._cookie, cookie, max_age=max_age, httponly=True, samesite="strict", secure=self._secure
        )


def _mac(key: bytes, body: str) -> str:
    # A later version that puts other facts into the cookie needs another name here.
    return hmac.new(key, b"session of the console " + body.encode(), sha256).hexdigest()


def _form_token(cookie: str) -> str:
    return sha256(b"form of the console " + cookie.encode()).hexdigest()


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
