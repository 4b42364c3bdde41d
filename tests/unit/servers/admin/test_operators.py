"""The gate in front of what is for operators only."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from avion_media.common.credentials import Person, Role, bearer_token, fingerprint, is_among
from avion_media.common.settings import is_loopback
from avion_media.servers.admin.operators import OperatorGate, person_of
from trio_http1 import PROXIED

TOKEN, OTHER = "a-token-of-some-length", "another-one-of-them"
HERE = "http://127.0.0.1:9090"


async def ask(gate: OperatorGate, method: str = "GET", url: str = HERE, **headers: str) -> httpx.Response:
    """One request to an endpoint behind the gate; header names write ``-`` as ``_``."""

    async def endpoint(_request: Request) -> Response:
        return PlainTextResponse("inside")

    app = Starlette(routes=[Route("/", gate.required(endpoint), methods=["GET", "POST"])])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url) as client:
        return await client.request(method, "/", headers=named)


def with_token(*, local_only: bool = False) -> OperatorGate:
    return OperatorGate(lambda: {fingerprint(each): Person() for each in (OTHER, TOKEN)}, local_only=local_only)


async def test_an_open_gate_lets_everybody_through() -> None:
    for method in ("GET", "POST"):
        answer = await ask(OperatorGate(), method, "http://admin.internal")
        assert (answer.status_code, answer.text) == (200, "inside")
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_token_opens_the_gate() -> None:
    for scheme in ("Bearer", "bearer", "BEARER "):
        assert (await ask(with_token(), Authorization=f"{scheme} {TOKEN}")).status_code == 200


@pytest.mark.parametrize(
    "shown",
    ["", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN} x", f"Bearer{TOKEN}"],
)
async def test_anything_else_does_not(shown: str) -> None:
    answer = await ask(with_token(), **({"Authorization": shown} if shown else {}))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text


async def test_tokens_can_be_replaced_meanwhile() -> None:
    valid = {fingerprint(TOKEN): Person()}
    gate = OperatorGate(lambda: valid)
    assert (await ask(gate, Authorization=f"Bearer {TOKEN}")).status_code == 200
    valid.clear()
    assert (await ask(gate, Authorization=f"Bearer {TOKEN}")).status_code == 401


@pytest.mark.parametrize(
    ("proxied", "user", "groups", "found"),
    [
        (True, "ines", "staff, moderator,viewer", Person("ines (proxy)", Role.MODERATOR)),
        (True, "i\x1bnes", "operator", Person("ines (proxy)", Role.OPERATOR)),
        (True, "ines", "moderator, evidence", Person("ines (proxy)", Role.MODERATOR, may_discard=True)),
        (True, "ines", "evidence", None),
        (True, "ines", "Moderator, moderators", None),
        (True, "ines", "", None),
        (True, "", "operator", None),
        (False, "ines", "operator", None),
    ],
)
async def test_a_trusted_proxy_names_the_operator_and_the_role(
    proxied: bool, user: str, groups: str, found: Person | None
) -> None:
    gate = OperatorGate(user_header="Remote-User", role_header="Remote-Groups")
    headers = [(b"remote-user", user.encode()), (b"remote-groups", groups.encode())]
    assert await gate.find(Request({"type": "http", "headers": headers, PROXIED: proxied})) == found


def test_a_request_that_was_not_admitted_has_no_right() -> None:
    assert person_of(Request({"type": "http", "headers": []})).role is Role.VIEWER


async def test_a_session_opens_the_gate_as_well() -> None:
    async def find(request: Request) -> Person | None:
        return Person("ada") if request.cookies.get("session") == "mine" else None

    def shown(request: Request) -> str:
        return request.cookies.get("session", "")

    gate = OperatorGate(lambda: {fingerprint(TOKEN): Person()}, session_cookie=shown, session=find)
    assert (await ask(gate, Cookie="session=mine")).status_code == 200
    assert (await ask(gate, Cookie="session=yours")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8080"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_a_foreign_page_cannot_act_through_a_browser(headers: dict[str, str]) -> None:
    for gate, more in ((OperatorGate(), {}), (with_token(), {"Authorization": f"Bearer {TOKEN}"})):
        assert (await ask(gate, "POST", **headers, **more)).status_code == 403


@pytest.mark.parametrize(
    ("public_url", "url", "headers", "status"),
    [
        ("", HERE, {"Origin": HERE, "Sec_Fetch_Site": "same-origin"}, 200),
        ("", HERE, {"Origin": HERE}, 200),
        # Behind a proxy that sets the Host, the browser's word counts, then the public URL.
        ("", HERE, {"Origin": "https://ops.example", "Sec_Fetch_Site": "same-origin"}, 200),
        ("", HERE, {"Origin": "https://ops.example"}, 403),
        ("https://ops.example", HERE, {"Origin": "https://ops.example"}, 200),
        ("https://ops.example/", HERE, {"Origin": "https://ops.example:443"}, 200),
        ("https://ops.example", HERE, {"Origin": "http://ops.example"}, 403),
        ("https://ops.example", HERE, {"Origin": "https://ops.example:8443"}, 403),
        ("https://ops.example", HERE, {"Origin": "https://ops.example:port"}, 403),
        ("https://ops.example", HERE, {"Origin": "https://ops.example", "Sec_Fetch_Site": "cross-site"}, 403),
        ("https://ops.example", HERE, {"Origin": HERE}, 200),  # past the proxy
        # One that keeps it may name the default port.
        ("", "http://ops.example", {"Origin": "https://ops.example", "Host": "ops.example:443"}, 200),
    ],
)
async def test_the_own_page_can(public_url: str, url: str, headers: dict[str, str], status: int) -> None:
    assert (await ask(OperatorGate(public_url=public_url), "POST", url, **headers)).status_code == status


async def test_a_name_that_was_made_to_point_here_reaches_nothing() -> None:
    gate = OperatorGate(local_only=True)
    for local in (HERE, "http://localhost:9090", "http://[::1]:9090"):
        assert (await ask(gate, url=local)).status_code == 200
    behind_proxy = OperatorGate(local_only=True, public_url="https://ops.example")
    assert (await ask(behind_proxy, url="http://ops.example")).status_code == 200
    for foreign in ("http://evil.example:9090", "http://127.0.0.1.evil.example", "http://10.0.0.1"):
        assert (await ask(gate, url=foreign)).status_code == 403
    # Whoever has the token may use any name.
    gate = with_token(local_only=True)
    assert (await ask(gate, url="http://admin.internal", Authorization=f"Bearer {TOKEN}")).status_code == 200


async def test_what_is_open_to_all_is_not_open_to_other_sites_on_a_loopback_address() -> None:
    async def metrics(_request: Request) -> Response:
        return PlainTextResponse("inside")

    for gate in (OperatorGate(local_only=True), with_token(local_only=True)):
        app = Starlette(routes=[Route("/metrics", gate.open_to_all(metrics))])
        for url, status in ((HERE, 200), ("http://localhost", 200), ("http://evil.example:9090", 403)):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url) as client:
                assert (await client.get("/metrics")).status_code == status
    elsewhere = OperatorGate().open_to_all(metrics)  # a pod's address: Prometheus may know it by any name
    headers = [(b"host", b"media-api.internal:9090")]
    request = Request({"type": "http", "method": "GET", "headers": headers})
    assert (await elsewhere(request)).status_code == 200


def test_what_a_loopback_address_is() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "10.0.0.1", "admin.localhost.example", "127.0.0.1.example")))


def test_tokens_are_read_and_compared_whole() -> None:
    assert bearer_token("Bearer abc.DEF-_~+/=") == "abc.DEF-_~+/="
    assert bearer_token("Bearer a\u00e9") is None
    known = [fingerprint("one"), fingerprint("two")]
    assert is_among(fingerprint("two"), known)
    assert not is_among(fingerprint("three"), known)
    assert not is_among(fingerprint("one"), [])
