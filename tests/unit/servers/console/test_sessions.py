"""Sessions that any replica accepts: by the cookie and the operator's token, and by Redis only if they were ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import Response

from avion_media.backends.redis import Redis
from avion_media.common.credentials import Person, Role, fingerprint
from avion_media.common.errors import Dependency, Unavailable
from avion_media.servers.console import sessions
from avion_media.servers.console.sessions import COOKIE, Sessions

TOKEN = "an-operators-token"
PERSON = Person(role=Role.MODERATOR)


class SetOfScores:
    """The part of Redis that sessions use."""

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self.is_away = False

    async def execute(self, command: str, _key: str, *arguments: str, when_full: bool = False) -> Any:
        if self.is_away:
            raise Unavailable(Dependency.REDIS)
        if command == "ZADD":
            self.scores[arguments[1]] = float(arguments[0])
        return self.scores.get(arguments[0])


def replica(redis: SetOfScores, *tokens: str, secure: bool = False) -> Sessions:
    return Sessions(cast("Redis", redis), lambda: dict.fromkeys(map(fingerprint, tokens), PERSON), secure=secure)


def request(cookie: str = "", name: str = COOKIE) -> Request:
    headers = [(b"cookie", f"{name}={cookie}".encode())] if cookie else []
    return Request({"type": "http", "headers": headers})


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0].partition("=")[2]


def begun(name: str = "") -> str:
    response = Response()
    replica(SetOfScores(), TOKEN).begin(response, TOKEN, name=name)
    return cookie_of(response)


async def test_a_session_is_open_on_a_replica_that_has_its_token_and_for_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis = SetOfScores()
    cookie = begun("Zoë\n, \x1b[1m" + "x" * 100)
    another = replica(redis, "an-older-one", TOKEN)
    session = another.of(request(cookie))
    assert session is not None
    name = f"(token {fingerprint(TOKEN).hex()[:8]})"
    assert session.operator == Person(f"Zoë, [1m{'x' * 32} {name}", Role.MODERATOR)
    named = Sessions(cast("Redis", redis), lambda: {fingerprint(TOKEN): Person("ines", Role.VIEWER)})
    assert await named.operator(request(cookie)) == Person(f"ines {name}", Role.VIEWER)
    assert await another.operator(request(cookie))
    assert not await replica(redis, "an-older-one").operator(request(cookie))
    assert not await Sessions(cast("Redis", redis)).operator(request(cookie))
    monkeypatch.setattr(sessions, "time", SimpleNamespace(time=lambda: session.ends_at))
    assert not await another.operator(request(cookie))


async def test_a_cookie_that_somebody_made_or_changed_is_none() -> None:
    cookie = begun()
    body, _, mac = cookie.partition(".")
    for forged in (
        "",
        ".",
        body,
        f"{body}.",
        f".{mac}",
        f"{body}0.{mac}",
        f"{body}.{mac[:-1]}",
        f"{body}.\xe9",
        "x" * 43,
    ):
        assert not await replica(SetOfScores(), TOKEN).operator(request(forged)), forged


async def test_a_session_that_was_ended_is_over_on_all_replicas_as_far_as_redis_knows() -> None:
    redis = SetOfScores()
    first, second = replica(redis, TOKEN), replica(redis, TOKEN)
    cookie, kept = begun(), begun()
    await first.end(request(cookie), Response())
    assert [await each.operator(request(cookie)) for each in (first, second)] == [None, None]
    assert await second.operator(request(kept))
    redis.is_away = True
    response = Response()
    await first.end(request(kept), response)
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert await second.operator(request(kept))


def test_a_form_belongs_to_the_cookie_of_its_page() -> None:
    console, another = replica(SetOfScores(), TOKEN), replica(SetOfScores(), TOKEN, secure=True)
    page, response = request(), Response()
    token = console.form_token(page)
    assert console.form_token(page) == token
    another.keep(page, response)
    shown = response.headers["set-cookie"]
    assert shown.startswith("__Host-avion_media_operator=")
    assert ("; Secure" in shown, "; Path=/;" in shown, "domain" in shown.lower()) == (True, True, False)
    cookie = cookie_of(response)
    assert another.is_own_form(request(cookie, f"__Host-{COOKIE}"), token)
    assert not another.is_own_form(request(cookie), token)  # what another host below the domain could set
    another = replica(SetOfScores(), TOKEN)
    assert another.is_own_form(request(cookie), token)
    assert not another.is_own_form(request(begun()), token)
    for wrong in (None, "", cookie, "é"):
        assert not another.is_own_form(request(cookie), wrong)
    assert not another.is_own_form(request(), token)
    kept = Response()
    another.keep(request(cookie), kept)
    assert "set-cookie" not in kept.headers
