"""Who sends wrong tokens has to wait, by whatever entrance; who has proven himself does not."""

from __future__ import annotations

from types import SimpleNamespace

import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from avion_media.common.credentials import Person, fingerprint
from avion_media.servers.admin import throttle
from avion_media.servers.admin.operators import OperatorGate
from avion_media.servers.admin.throttle import MAX_WRONG, Throttle, TooManyAttempts

TOKEN, OTHER = "an-operators-token-of-32-characters", "a-second-token-of-32-characters-or-so"
HERE, THERE = "192.0.2.1", "192.0.2.2"


def guess(number: int) -> bytes:
    return fingerprint(f"guess {number}")


def wait_s(limiter: Throttle, address: str, proof: bytes = b"new") -> float:
    try:
        limiter.check(address, proof)
    except TooManyAttempts as error:
        return error.wait_s
    return 0.0


async def test_five_wrong_proofs_at_once_and_then_one_every_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    limiter = Throttle()
    for number in range(MAX_WRONG):
        assert wait_s(limiter, HERE) == 0
        limiter.refused(HERE, guess(number))
    assert wait_s(limiter, HERE) == pytest.approx(10)
    assert wait_s(limiter, THERE) == 0
    await trio.sleep(10)
    assert wait_s(limiter, HERE) == pytest.approx(0)
    limiter.refused(HERE, guess(10))
    assert wait_s(limiter, HERE) == pytest.approx(10)
    await trio.sleep(60)
    assert wait_s(limiter, HERE) == 0


async def test_the_same_wrong_proof_counts_once(autojump_clock: trio.testing.MockClock) -> None:
    limiter = Throttle()
    for _ in range(100):
        limiter.refused(HERE, guess(0))
    assert wait_s(limiter, HERE) == 0


async def test_a_proof_that_was_right_here_within_a_day_need_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    limiter = Throttle()
    limiter.accepted(HERE, b"mine")

    def attack() -> None:
        for number in range(100):
            for address in (HERE, THERE):
                limiter.refused(address, guess(number))

    attack()
    assert (wait_s(limiter, HERE, b"mine"), wait_s(limiter, THERE, b"mine") > 0) == (0, True)
    await trio.sleep(86400)
    attack()
    assert wait_s(limiter, HERE, b"mine") > 0
    limiter.accepted(HERE, b"mine")
    limiter.refused(HERE, b"mine")  # withdrawn
    assert wait_s(limiter, HERE, b"another") > 0


async def test_memory_is_bounded(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_MAX_ADDRESSES", 2)
    monkeypatch.setattr(throttle, "_MAX_PROVEN", 1)
    limiter = Throttle()
    for address in ("a", "b", "c"):
        limiter.accepted(address, b"mine")
        for number in range(MAX_WRONG):
            limiter.refused(address, guess(number))
    assert [wait_s(limiter, each) > 0 for each in ("a", "b", "c")] == [False, True, True]
    assert [wait_s(limiter, each, b"mine") > 0 for each in ("b", "c")] == [True, False]


async def test_bearer_tokens_the_form_and_cookies_share_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def session(request: Request) -> Person | None:
        return Person("ada") if request.cookies.get("session") == "hers" else None

    async def endpoint(request: Request) -> Response:
        if (token := request.query_params.get("form")) is not None:
            return PlainTextResponse(str(gate.accepts(request, token)))
        return PlainTextResponse("inside")

    def shown(request: Request) -> str:
        return request.cookies.get("session", "")

    tokens = {fingerprint(each): Person() for each in (TOKEN, OTHER)}
    gate = OperatorGate(lambda: tokens, session_cookie=shown, session=session)
    logged: list[dict[str, object]] = []
    monkeypatch.setattr(gate.refusals, "_log", SimpleNamespace(warning=lambda _event, **facts: logged.append(facts)))
    app = Starlette(routes=[Route("/tree", gate.required(endpoint))])
    transport = httpx.ASGITransport(app, client=(HERE, 0))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

        async def ask(token: str = "", cookie: str = "") -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"} if token else {"Cookie": f"session={cookie}"}
            return await client.get("/tree", headers=headers)

        assert (await ask(TOKEN)).status_code == (await ask(cookie="hers")).status_code == 200
        for number in range(2):
            assert (await ask(f"a-wrong-token-{number}")).status_code == 401
            assert (await ask(cookie=f"forged.{number}")).status_code == 401
        wrong = await client.get("/tree?form=wrong", headers={"Authorization": f"Bearer {TOKEN}"})
        assert wrong.text == "False"
        refused = [await ask("a-wrong-token-5"), await ask(cookie="forged.5"), await ask(OTHER)]
        assert [(each.status_code, each.headers["Retry-After"]) for each in refused] == [(429, "10")] * 3
        assert (await ask(TOKEN)).status_code == (await ask(cookie="hers")).status_code == 200  # known here
        await trio.sleep(10)
        assert (await ask(OTHER)).status_code == 200
        tokens.pop(fingerprint(TOKEN))
        assert (await ask(TOKEN)).status_code == 401
    assert [each["since_last_line"] for each in logged] == [1, 8]  # one line in ten seconds
    assert {each["address"] for each in logged} == {HERE}
    assert "a-wrong-token" not in str(logged)
