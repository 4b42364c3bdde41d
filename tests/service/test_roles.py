"""What each role is allowed to do: every action of the table, by button and by route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis as redis_py

from avion_media.common.credentials import Person, Role
from avion_media.operations.operation import NotAllowed
from avion_media.operations.table import OPERATIONS
from avion_media.servers.admin.application import ROUTES
from tests.audit_log import records_in
from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment
from tests.service.test_console_access import DEAD, form_token, log_in

TOKENS = {role: f"a-token-of-a-{role}-of-32-characters" for role in Role}
EACH = [(name, role) for name in OPERATIONS for role in Role]
BUTTONS = [(name, role) for name, role in EACH if OPERATIONS[name].perform is not None and name != "refuse"]
MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGCA5"
PAGES = ("", "/queues", "/dead-letters", "/media", f"/media/{MEDIA_ID}", "/system", "/audit", "/review")
PARTS = ("", "?part=lists", "?part=blocked", "?part=hosts", "?part=evidence")


@dataclass
class Desk:
    """A service, and a logged-in browser for each role."""

    service: Service
    redis: Any
    bucket: S3Bucket
    browsers: dict[Role, httpx.Client]

    def recorded(self) -> int:
        return len(records_in(self.bucket))


@pytest.fixture(scope="module")
def desk(
    redis_of_process: str, redis_client: redis_py.Redis, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    tokens = tmp_path_factory.mktemp("roles") / "tokens"
    tokens.write_text("".join(f"{token} {role} {role}-ines\n" for role, token in TOKENS.items()))
    environment = service_environment(
        redis_of_process,
        bucket.address.endpoint_url,
        bucket.bucket,
        ADMIN__TOKEN_FILE=str(tokens),
        ADMIN__ROLE_HEADER="Remote-Groups",
        ADMIN__TRUSTED_PROXIES="127.0.0.7/32",
        HTTP__TRUSTED_PROXIES="127.0.0.5/32",
        CHAOS__ENABLED="true",
    )
    with running(environment, roles="http") as service:
        browsers = {
            role: httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=30) for role in Role
        }
        for role, browser in browsers.items():
            assert log_in(browser, TOKENS[role]).status_code == 303
        yield Desk(service, redis_client, bucket, browsers)
        for browser in browsers.values():
            browser.close()


@pytest.mark.parametrize(("name", "role"), EACH)
def test_the_table_decides(name: str, role: Role) -> None:
    row, person = OPERATIONS[name], Person("ines", role)
    if role >= row.right:
        row.require(person)
    else:
        with pytest.raises(NotAllowed, match=f"needs the role {row.right}, but ines is a {role}"):
            row.require(person)


@pytest.mark.parametrize(("name", "role"), BUTTONS)
def test_a_form_is_refused_without_the_role_and_nothing_is_recorded(desk: Desk, name: str, role: Role) -> None:
    browser, row, before = desk.browsers[role], OPERATIONS[name], desk.recorded()
    if name in BY_PAGE:
        done = browser.get(BY_PAGE[name])
    else:
        form = {"form_token": form_token(browser.get("/console")), "action": name, "confirmed": "yes"}
        target = {"hash": "ab" * 16, "type": "md5"} if name == "list" else {"target": "nothing", "queue": "nothing"}
        done = browser.post("/console/actions", data=form | target)
    if role >= row.right:
        assert done.status_code != 403
    else:
        assert done.status_code == 403
        assert f"needs the role {row.right}, but {role}-ines (token " in done.text
        assert desk.recorded() == before


BY_PAGE = {
    "look": f"/console/moderation/{MEDIA_ID}/preview",
    "export_evidence": f"/console/moderation/{MEDIA_ID}/evidence",
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", [name for name in ROUTES if name != "kill"])
def test_a_route_is_refused_without_the_role(desk: Desk, name: str, role: Role) -> None:
    path, before = ROUTES[name][0].format(queue="nothing", job="nothing"), desk.recorded()
    headers = {"Authorization": f"Bearer {TOKENS[role]}"}
    done = httpx.post(f"{desk.service.admin_url}{path}?rate=5&task_id=t&owner=ada", headers=headers, timeout=30)
    if role >= OPERATIONS[name].right:
        assert done.status_code != 403
    else:
        assert (done.status_code, desk.recorded()) == (403, before)
        assert "needs the role operator" in done.json()["error"]


def test_every_role_sees_the_pages_with_the_buttons_that_it_can_use(desk: Desk) -> None:
    desk.redis.xadd(DEAD, {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: x", "attempts": "1"})
    for role, browser in desk.browsers.items():
        pages = [*PAGES, *(f"/moderation{part}" for part in PARTS)]
        shown = {path: browser.get(f"/console{path}") for path in pages}
        assert {path: page.status_code for path, page in shown.items() if path != f"/media/{MEDIA_ID}"} == {
            path: 200 for path in pages if path != f"/media/{MEDIA_ID}"
        }
        for path, button, least in (
            ("/dead-letters", "Replay</button>", Role.OPERATOR),
            ("/dead-letters", "Replay all…", Role.OPERATOR),
            ("/dead-letters", "Drop ", Role.OPERATOR),
            ("/queues", "Pause", Role.OPERATOR),
            ("/system", "Kill", Role.OPERATOR),
            ("/moderation?part=hosts", "Block a host", Role.MODERATOR),
            ("/moderation?part=lists", "Add an entry", Role.MODERATOR),
            ("/review", "Start reviewing", Role.MODERATOR),
        ):
            assert (button in shown[path].text) is (role >= least), (role, path)
        if role is Role.VIEWER:
            assert not [path for path, page in shown.items() if 'href="/console/confirm' in page.text]


def test_a_viewer_cannot_review(desk: Desk) -> None:
    browser = desk.browsers[Role.VIEWER]
    form = {"form_token": form_token(browser.get("/console")), "decision": "start"}
    refused = browser.post("/console/review", data=form)
    assert refused.status_code == 403
    assert "needs the role moderator" in refused.text


def test_without_tokens_the_login_says_what_the_proxy_must_send(redis_of_process: str, bucket: S3Bucket) -> None:
    settings = {"ADMIN__ROLE_HEADER": "Remote-Groups", "ADMIN__TRUSTED_PROXIES": "127.0.0.0/8"}
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment, roles="delete") as service:
        told = httpx.get(f"{service.admin_url}/console", headers={"Remote-User": "ines"}, follow_redirects=True)
        assert told.status_code == 403
        assert "one of the roles viewer, moderator, operator" in told.text
        headers = {"Remote-User": "ines", "Remote-Groups": "viewer"}
        assert httpx.get(f"{service.admin_url}/console", headers=headers).status_code == 200


def test_only_the_proxy_of_the_admin_port_names_an_operator(desk: Desk) -> None:
    headers = {"Remote-User": "ines", "Remote-Groups": "staff,moderator"}
    for address, status in (("127.0.0.7", 200), ("127.0.0.5", 303), ("127.0.0.8", 303)):
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(base_url=desk.service.admin_url, transport=transport, headers=headers) as browser:
            assert browser.get("/console/queues").status_code == status
            if status == 200:
                form = {"form_token": form_token(browser.get("/console/review"))}
                block = {"action": "block_host", "target": "bad.example", "confirmed": "yes"}
                assert browser.post("/console/actions", data=form | block).status_code == 303
                drop = {"action": "pause", "target": "media_processing_queue", "confirmed": "yes"}
                assert browser.post("/console/actions", data=form | drop).status_code == 403
    entry = records_in(desk.bucket)[-1]
    assert (entry.actor, entry.action) == ("ines (proxy)", "block_host")
