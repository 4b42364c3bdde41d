"""Who may see the console, and whose requests change anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import redis as redis_py

from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment

TOKEN = "an-operators-token-of-32-characters"
DEAD = "{media_processing_queue}:dlq"
MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGCA5"
POSTS = ("/console/letters/replay", "/console/letters/drop", "/console/kill", "/console/logout")


@contextmanager
def browsing(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.admin_url, trust_env=False, timeout=20) as client:
        yield client


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found[1]


def log_in(client: httpx.Client, token: str = TOKEN) -> httpx.Response:
    form = {"form_token": form_token(client.get("/console/login")), "token": token}
    return client.post("/console/login", data=form)


@pytest.fixture(scope="module")
def guarded(redis_of_module: str, bucket: S3Bucket) -> Iterator[Service]:
    """A service whose admin port asks for a token."""
    environment = service_environment(
        redis_of_module,
        bucket.address.endpoint_url,
        bucket.bucket,
        ADMIN__TOKEN=TOKEN,
        CHAOS__ENABLED="true",
    )
    with running(environment, roles="delete") as service:
        yield service


def test_without_a_session_a_browser_is_sent_to_the_login(guarded: Service) -> None:
    with browsing(guarded) as client:
        for path in ("/console", f"/console/media/{MEDIA_ID}"):
            response = client.get(path)
            assert (response.status_code, response.headers["Location"]) == (303, "/console/login")
        assert client.get("/console/live").status_code == 401
        for path in POSTS:
            assert client.post(path, data={"form_token": "0" * 64}).status_code == 401
        assert client.get("/livez").status_code == 200


def test_a_session_begins_with_the_token_and_ends_with_the_log_out(guarded: Service) -> None:
    with browsing(guarded) as client:
        refused = log_in(client, "something-else-of-32-characters-or-so")
        assert refused.status_code == 401
        assert "not an operator" in refused.text
        assert not client.cookies

        accepted = log_in(client)
        assert (accepted.status_code, accepted.headers["Location"]) == (303, "/console")
        cookie = accepted.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie

        page = client.get("/console")
        assert page.status_code == 200
        assert page.headers["Cache-Control"] == "no-store"
        assert TOKEN not in page.text
        assert client.post("/console/logout", data={"form_token": form_token(page)}).status_code == 303
        assert client.get("/console").status_code == 303


def test_an_action_needs_a_form_of_this_session(guarded: Service, redis_of_module: str) -> None:
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client, browsing(guarded) as other:
        entry_id = redis.xadd(DEAD, {"task_id": "t", "media_id": MEDIA_ID, "error": "x", "attempts": "1"}).decode()
        log_in(client)
        log_in(other)
        form = {"queue": "media_processing_queue", "entry_id": entry_id}
        for wrong in ({}, {"form_token": ""}, {"form_token": form_token(other.get("/console"))}):
            assert client.post("/console/letters/drop", data=form | wrong).status_code == 403
        mine = form | {"form_token": form_token(client.get("/console"))}
        for foreign in (
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert client.post("/console/letters/drop", data=mine, headers=foreign).status_code == 403
        assert redis.xlen(DEAD) == 1
        done = client.post("/console/letters/drop", data=mine, headers={"Origin": guarded.admin_url})
        assert done.headers["Location"] == "/console?did=dropped#letters"
        assert redis.xlen(DEAD) == 0
        again = client.post("/console/letters/drop", data=mine)
        assert again.headers["Location"] == "/console?did=gone#letters"


def test_dead_letters_of_purges_are_seen_and_replayed(guarded: Service, redis_of_module: str) -> None:
    queue = "media_purge_queue"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        letter = {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: x", "attempts": "1"}
        entry_id = redis.xadd(f"{{{queue}}}:dlq", letter).decode()
        log_in(client)
        page = client.get("/console")
        assert entry_id in page.text
        form = {"queue": queue, "entry_id": entry_id, "form_token": form_token(page)}
        done = client.post("/console/letters/replay", data=form)
        assert done.headers["Location"] == "/console?did=replayed#letters"
        assert [fields[b"task_id"] for _, fields in redis.xrange(queue)] == [b"t"]


def test_a_live_page_ends_with_its_session(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)
        token = form_token(client.get("/console"))
        with client.stream("GET", "/console/live") as live:
            assert live.status_code == 200
            pieces = live.iter_text()
            assert "event: section" in next(pieces)
            assert client.post("/console/logout", data={"form_token": token}).status_code == 303
            for _ in pieces:
                pass  # the client's timeout is the limit


def test_wrong_letters_and_nodes_are_told(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)
        token = {"form_token": form_token(client.get("/console"))}
        wrong = client.post("/console/letters/replay", data=token | {"queue": "drop_deleted", "entry_id": "1-1"})
        assert wrong.headers["Location"] == "/console?did=gone#letters"
        missing = client.post("/console/kill", data=token | {"path": "service/none"})
        assert missing.headers["Location"] == "/console?did=not-running#tree"


def test_a_token_works_without_a_session(guarded: Service) -> None:
    with browsing(guarded) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert client.get("/console").status_code == 200


def test_pages_allow_nothing_foreign(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)
        page = client.get("/console")
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "upload" not in client.get("/console").text  # in development only
        assert client.post("/console/uploads", json={}).status_code in (404, 405)
        assert client.get("/console/assets/../pages.py").status_code == 404


def test_what_strangers_wrote_is_text(guarded: Service, redis_of_module: str) -> None:
    script = "<script>alert(1)</script>"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        redis.xadd("{media_cache_queue}:dlq", {"task_id": "t", "remote_url": script, "error": script, "attempts": "1"})
        log_in(client)
        page = client.get("/console").text
        redis.delete("{media_cache_queue}:dlq")
    assert script not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_away_is_said_in_its_section(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    environment = service_environment("redis://127.0.0.1:9", "http://127.0.0.1:9", "avion-media")
    with running(environment, roles="delete", until=Service.whole) as service, browsing(service) as client:
        page = client.get("/console")
        assert page.status_code == 200
        assert page.text.count("Cannot be shown: redis is not available") == 3
        assert client.get(f"/console/media/{MEDIA_ID}").status_code == 503
