"""Who may see the console, and whose requests change anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlencode

import httpx
import pytest
import redis as redis_py

from avion_media.items.moderation import Block, BlockState
from avion_media.items.moderation.records import HELD, Held, write_block
from avion_media.servers.console.media_list import PAGE_TILES
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, json_lines, running, service_environment
from tests.service.published import key_of
from tests.services.http import serving

TOKEN = "an-operators-token-of-32-characters"
DEAD = "{media_processing_queue}:dlq"
MEDIA_ID = "01M88C0SJ305C5J3D3BYCKGCA5"
POSTS = ("/console/actions", "/console/logout")
PAGES = (
    "/queues",
    "/dead-letters",
    "/media",
    f"/media/{MEDIA_ID}",
    "/moderation",
    "/system",
    "/audit",
    "/confirm",
    "/nothing",
)


@contextmanager
def browsing(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.admin_url, trust_env=False, verify=False, timeout=20) as client:
        yield client


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found[1]


def log_in(client: httpx.Client, token: str = TOKEN, name: str = "") -> httpx.Response:
    form = {"form_token": form_token(client.get("/console/login")), "token": token, "name": name}
    return client.post("/console/login", data=form)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """Responds to range queries as Prometheus does, with 7 at each time; the address, and what was asked."""
    asked: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            wanted = parse_qs(query)
            asked.append(wanted)
            start, end, step = (float(wanted[name][0]) for name in ("start", "end", "step"))
            values = [[start + step * at, "7"] for at in range(round((end - start) / step) + 1)]
            found = {
                "status": "success",
                "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]},
            }
            body = json.dumps(found).encode()
            self.send_response(200 if path == "/api/v1/query_range" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}", asked


@pytest.fixture(scope="module")
def guarded(
    redis_of_module: str, bucket: S3Bucket, prometheus: tuple[str, list[dict[str, list[str]]]]
) -> Iterator[Service]:
    """A service whose admin port asks for a token."""
    environment = service_environment(
        redis_of_module,
        bucket.address.endpoint_url,
        bucket.bucket,
        ADMIN__TOKEN=TOKEN,
        ADMIN__PROMETHEUS_URL=prometheus[0],
        CHAOS__ENABLED="true",
    )
    with running(environment, roles="delete") as service:
        yield service


def test_without_a_session_a_browser_is_sent_to_the_login(guarded: Service) -> None:
    with browsing(guarded) as client:
        response = client.get("/console")
        assert (response.status_code, response.headers["Location"]) == (303, "/console/login")
        for path in PAGES:
            response = client.get(f"/console{path}")
            wanted = f"/console/login?next=%2Fconsole{path.replace('/', '%2F')}"
            assert (response.status_code, response.headers["Location"]) == (303, wanted)
        assert client.get("/console/live").status_code == 401
        for path in POSTS:
            assert client.post(path, data={"form_token": "0" * 64}).status_code == 401
        assert client.get("/livez").status_code == 200


def test_a_session_begins_with_the_token_and_ends_with_the_log_out(guarded: Service) -> None:
    with browsing(guarded) as client:
        refused = log_in(client, "something-else-of-32-characters-or-so")
        assert refused.status_code == 401
        assert "This token is not known" in refused.text
        assert client.get("/console").status_code == 303

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


def test_the_login_leads_back_to_the_page_that_was_asked_for(guarded: Service) -> None:
    for wanted, leads_to in {
        "/console/dead-letters?q=x": "/console/dead-letters?q=x",
        "https://elsewhere.example/console": "/console",
        "//elsewhere.example/console/": "/console",
        "/console/\\elsewhere.example": "/console",
        "/metrics": "/console",
    }.items():
        with browsing(guarded) as client:
            login = client.get("/console/login", params={"next": wanted})
            form = {"form_token": form_token(login), "token": TOKEN, "next": wanted}
            assert client.post("/console/login", data=form).headers["Location"] == leads_to, wanted


def test_an_action_needs_a_form_of_this_session(guarded: Service, redis_of_module: str) -> None:
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client, browsing(guarded) as other:
        entry_id = redis.xadd(DEAD, {"task_id": "t", "media_id": MEDIA_ID, "error": "x", "attempts": "1"}).decode()
        log_in(client)
        log_in(other)
        form = {"action": "drop", "target": f"media_processing_queue/{entry_id}", "confirmed": "yes"}
        for wrong in ({}, {"form_token": ""}, {"form_token": form_token(other.get("/console"))}):
            refused = client.post("/console/actions", data=form | wrong)
            assert (refused.status_code, "This form is too old" in refused.text) == (403, True)
        mine = form | {"form_token": form_token(client.get("/console"))}
        for foreign in (
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert client.post("/console/actions", data=mine, headers=foreign).status_code == 403
        assert redis.xlen(DEAD) == 1
        done = client.post("/console/actions", data=mine, headers={"Origin": guarded.admin_url})
        assert "1 dead letter is dropped." in client.get(done.headers["Location"]).text
        assert redis.xlen(DEAD) == 0
        again = client.post("/console/actions", data=mine)
        assert "no such dead letter" in client.get(again.headers["Location"]).text


def test_what_cannot_be_undone_is_done_only_after_its_question(guarded: Service, redis_of_module: str) -> None:
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        dead_letter = {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: x", "attempts": "1"}
        ids = [redis.xadd(DEAD, dead_letter).decode() for _ in range(3)]
        redis.xadd(DEAD, dead_letter | {"error": "poison: y"})
        log_in(client)
        form = {"form_token": form_token(client.get("/console")), "action": "drop"}
        one = form | {"target": f"media_processing_queue/{ids[0]}"}
        question = client.post("/console/actions", data=one)
        assert (question.status_code, "Drop this dead letter?" in question.text) == (200, True)

        by_reason = form | {"all": "1", "reason": "internal"}
        shown = client.get("/console/confirm", params={"action": "drop", "all": "1", "reason": "internal"})
        assert "Drop 3 dead letters?" in shown.text
        until = re.search(r'name="until" value="([^"]+)"', shown.text)
        assert until is not None
        redis.xadd(DEAD, dead_letter)  # failed after the question was asked: it stays
        for typed in ("", "2", "4"):
            confirmed = by_reason | {"confirmed": "yes", "until": until[1], "typed": typed}
            assert client.post("/console/actions", data=confirmed).status_code == 422
        assert redis.xlen(DEAD) == 5
        confirmed = by_reason | {"confirmed": "yes", "until": until[1], "typed": "3"}
        done = client.post("/console/actions", data=confirmed)
        page = client.get(done.headers["Location"]).text
        assert "3 dead letters are dropped." in page
        assert [fields[b"error"] for _, fields in redis.xrange(DEAD)] == [b"poison: y", b"internal: x"]
        redis.delete(DEAD)


def test_every_action_is_in_the_audit_log(guarded: Service, redis_of_module: str) -> None:
    queue = "media_purge_queue"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        dead_letter = {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: x", "attempts": "1"}
        entry_id = redis.xadd(f"{{{queue}}}:dlq", dead_letter).decode()
        form = {"form_token": form_token(client.get("/console/login")), "token": TOKEN, "name": "ada <b>"}
        client.post("/console/login", data=form)
        page = client.get("/console/dead-letters")
        assert entry_id in page.text
        target = f"{queue}/{entry_id}"
        form = {"action": "replay", "target": target, "form_token": form_token(page)}
        done = client.post("/console/actions", data=form)
        assert "1 dead letter is queued again." in client.get(done.headers["Location"]).text
        assert [fields[b"task_id"] for _, fields in redis.xrange(queue)] == [b"t"]
        shown = client.get("/console/audit").text
    assert "ada &lt;b&gt; (token " in shown
    assert target in shown
    about = f"{target} ({MEDIA_ID})"
    (logged,) = [each for each in json_lines(guarded.log()) if each.get("targets") == about]
    assert logged["event"] == "operator.action"
    assert (logged["action"], logged["note"]) == ("replay", "1 dead letter is queued again.")
    assert logged["actor"].startswith("ada <b> (token ")


def test_all_that_match_are_replayed_by_a_job_that_can_be_cancelled(guarded: Service, redis_of_module: str) -> None:
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        dead_letter = {"task_id": "t", "media_id": MEDIA_ID, "error": "internal: x", "attempts": "1"}
        for number in range(3):
            redis.xadd(DEAD, dead_letter | {"error": "poison: y"} if number else dead_letter)
        log_in(client)
        form = {"form_token": form_token(client.get("/console")), "action": "replay_all", "reason": "poison"}
        assert "How many per second" in client.get("/console/confirm", params=form).text
        done = client.post("/console/actions", data=form | {"confirmed": "yes", "rate": "0.001"})
        page = client.get(done.headers["Location"]).text
        assert "1 queue is replayed in bulk" in page
        assert "Replay of" in page
        name = {"form_token": form["form_token"], "action": "cancel_job", "target": "processing.replay"}
        client.post("/console/actions", data=name | {"confirmed": "yes"})
        assert "Cancelled" in client.get("/console/queues").text
        assert redis.hget("{media_processing_queue}:job:replay", "rate") == b"0.001"
        redis.delete(DEAD)


def test_a_live_page_ends_with_its_session(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)
        token = form_token(client.get("/console"))
        with client.stream("GET", "/console/live") as live:
            assert live.status_code == 200
            pieces = live.iter_text()
            assert "event: region" in next(pieces)
            assert client.post("/console/logout", data={"form_token": token}).status_code == 303
            for _ in pieces:
                pass  # the client's timeout is the limit


def test_what_is_not_there_is_said(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)
        token = {"form_token": form_token(client.get("/console"))}
        for wrong in ({"action": "format"}, {"action": "replay"}, {"action": "replay", "all": "1", "reason": "none"}):
            refused = client.post("/console/actions", data=token | wrong)
            assert (refused.status_code, "Nothing to do" in refused.text) == (404, True)
        missing = client.post("/console/actions", data=token | {"action": "kill", "target": "service/none"})
        assert "service/none: no such node" in client.get(missing.headers["Location"]).text
        for path, title in {"/nothing": "No such page", "/media/x": "No such media item"}.items():
            page = client.get(f"/console{path}")
            assert (page.status_code, title in page.text) == (404, True)
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]


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
        assert 'id="upload"' not in client.get("/console").text  # in development only
        assert client.post("/console/uploads", json={}).status_code in (404, 405)
        assert client.get("/console/assets/../pages.py").status_code == 404


def two_pages(client: httpx.Client, wanted: dict[str, str]) -> tuple[str, str]:
    """Return the list of media with this filter, and the page that it leads to."""
    first = client.get("/console/media", params=wanted).text
    following = re.search('href="([^"]+)" rel="next"', first)
    assert following is not None
    return first, client.get(following[1].replace("&amp;", "&")).text


def test_the_media_of_an_owner_are_found_by_the_index_in_the_bucket(guarded: Service, bucket: S3Bucket) -> None:
    ids = [f"{MEDIA_ID[:-2]}{number:02d}" for number in range(PAGE_TILES + 3)]
    for media_id in ids:
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"owner/ada/{media_id}.2048")
    with browsing(guarded) as client:
        log_in(client)
        first, second = two_pages(client, {"q": "owner:ada"})
        assert re.findall('data-key="([0-9A-Z]{26})"', first) == ids[:PAGE_TILES]
        assert "2.0 KiB" in first
        for part in (
            "Public media of ada, oldest first.",
            f"{PAGE_TILES} public media items of ada",
            "Held and blocked ones",
        ):
            assert part in first, part
        assert "newest first" not in first
        assert re.findall('data-key="([0-9A-Z]{26})"', second) == ids[PAGE_TILES:]
        assert 'rel="next"' not in second
        assert "No public media of this owner match." in client.get("/console/media", params={"q": "owner:bob"}).text


def test_the_copies_of_a_host_are_listed_in_rows(guarded: Service, bucket: S3Bucket) -> None:
    ids = [f"{number:064x}" for number in range(PAGE_TILES + 3)]
    for media_id in ids:
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"host/heron.example/{media_id}.2048.avatar")
    with browsing(guarded) as client:
        log_in(client)
        wanted = {"q": "host:heron.example", "view": "list"}
        first, second = two_pages(client, wanted)
        assert re.findall('<tr data-key="([0-9a-f]{64})"', first) == ids[:PAGE_TILES]
        assert "copies of heron.example" in first
        assert re.findall('<tr data-key="([0-9a-f]{64})"', second) == ids[PAGE_TILES:]
        none = client.get("/console/media", params={**wanted, "q": "host:egret.example"}).text
        assert "No copies of this host match." in none
        assert "Nothing matches" in client.get("/console/media", params={"q": "host:no host"}).text


def test_what_strangers_wrote_is_text(guarded: Service, redis_of_module: str) -> None:
    script = "<script>alert(1)</script>"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        redis.xadd("{media_cache_queue}:dlq", {"task_id": "t", "remote_url": script, "error": script, "attempts": "1"})
        redis.xadd(
            "media_events", {"event": json.dumps({"type": "media.failed", "media_id": MEDIA_ID, "reason": script})}
        )
        log_in(client)
        for path in ("", "/dead-letters", f"/dead-letters?q={script}", f"/media?q={script}", f"/audit?done={script}"):
            page = client.get(f"/console{path}").text
            assert script not in page, path
        page = client.get("/console/dead-letters").text
        redis.delete("{media_cache_queue}:dlq", "media_events")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_an_outage_is_the_banner_of_every_page(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    environment = service_environment("redis://127.0.0.1:9", "http://127.0.0.1:9", "avion-media")
    with running(environment, roles="delete", until=Service.whole) as service, browsing(service) as client:
        for path in ("", "/queues", "/dead-letters", "/media", "/system"):
            page = client.get(f"/console{path}")
            assert page.status_code == 200
            assert "<strong>Redis does not respond</strong>" in page.text, path
        assert client.get("/console/dead-letters").text.count("Cannot be shown") == 2
        for path in (f"/media/{MEDIA_ID}", "/audit"):
            page = client.get(f"/console{path}")
            assert (page.status_code, page.headers["Retry-After"]) == (503, "1")
            assert f"{'The object store' if path == '/audit' else 'Redis'} does not respond" in page.text


def test_an_address_that_sends_wrong_tokens_has_to_wait(guarded: Service) -> None:
    """From an address of its own, as the others have to log in."""
    transport = httpx.HTTPTransport(local_address="127.0.0.3")
    with httpx.Client(base_url=guarded.admin_url, transport=transport, timeout=20) as client:
        refused = [log_in(client, f"something-else-of-32-characters-{n}").status_code for n in range(5)]
        assert refused == [401] * 5
        response = log_in(client)
        assert response.status_code == 429
        assert 0 < int(response.headers["Retry-After"]) <= 10
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/tree", headers=bearer).status_code == 429  # no way around the form's throttle
    with browsing(guarded) as client:
        assert log_in(client).status_code == 303


def test_longer_ranges_come_from_prometheus(
    guarded: Service, prometheus: tuple[str, list[dict[str, list[str]]]]
) -> None:
    with browsing(guarded) as client:
        log_in(client)
        assert 'href="/console?range=7d"' in client.get("/console").text
        page = client.get("/console?range=1d").text
        assert "Throughput, last day, by Prometheus" in page
        assert "7 <small>tasks/min</small>" in page
        assert "Last hour</h2>" in client.get("/console?range=99y").text
    assert {each["step"][0] for each in prometheus[1]} == {"1440"}


def test_replicas_are_listed_with_version_and_phase(guarded: Service) -> None:
    with browsing(guarded) as client:
        log_in(client)

        def shown() -> str | None:
            found = re.search(r'<h2 id="replicas-title">.*?</table>', client.get("/console/system").text, re.DOTALL)
            return found[0] if found is not None and "Ready" in found[0] else None

        assert "delete" in eventually(shown, "this replica to announce itself")


def test_the_page_of_a_medium_shows_its_moderation_when_redis_has_nothing_of_it(
    guarded: Service, bucket: S3Bucket
) -> None:
    blocked, held, unknown = (f"01M88C0SJ305C5J3D3BYCKGF0{number}" for number in range(3))
    block = Block(blocked, "2026-11-20T08:00:00.000+00:00", by="ada", note="report 4711", state=BlockState.REMOVED)
    review = Held(held, block.at, f"pdq {'ab' * 32} of list own", "media_processing_queue", {})
    records = {f"moderation/blocked/{blocked}": write_block(block), f"moderation/held/{held}": HELD.write(review)}
    for key, body in {**records, f"quarantine/{blocked}/original": b"1"}.items():
        bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=body)
    with browsing(guarded) as client:
        log_in(client)
        page = client.get(f"/console/media/{blocked}")
        assert page.status_code == 200
        for part in ("Failed</span>", "report 4711", "ada", f"quarantine/{blocked}/original", "Unblock"):
            assert part in page.text, part
        page = client.get(f"/console/media/{held}")
        assert page.status_code == 200
        for part in ("Processing</span>", "pdq abababab…ababab of list own", "Release"):
            assert part in page.text, part
        assert client.get(f"/console/media/{unknown}").status_code == 404
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"moderation/blocked/{unknown}", Body=b'{"v":2}')
        page = client.get(f"/console/media/{unknown}")
        assert page.status_code == 200
        for part in ("Failed</span>", "it has version 2"):
            assert part in page.text, part
        for path in ("moderation?part=blocked", f"moderation?q={unknown}"):
            assert client.get(f"/console/{path}").status_code == 200
    bucket.client.delete_object(Bucket=bucket.bucket, Key=f"moderation/held/{held}")


def test_a_copy_names_the_media_item_whose_block_has_blocked_it(guarded: Service, bucket: S3Bucket) -> None:
    cause, copy, listed = (f"01M88C0SJ305C5J3D3BYCKGH0{number}" for number in range(3))
    block = Block(cause, "2026-11-20T08:00:00.000+00:00", by="ada", state=BlockState.REMOVED)
    for each, why in ((cause, ""), (copy, cause), (listed, "list ncmec")):
        body = write_block(replace(block, media_id=each, cause=why, copies=(copy,) if each == cause else ()))
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"moderation/blocked/{each}", Body=body)
    link = f'as a copy of <a class="mono" href="/console/media/{cause}"'
    with browsing(guarded) as client:
        log_in(client)
        for path in (f"media/{copy}", f"moderation?q={copy}", "moderation?part=blocked"):
            assert link in client.get(f"/console/{path}").text, path
        for path in (f"media/{copy}", f"moderation?q={copy}"):
            page = client.get(f"/console/{path}").text
            assert f'href="/console/audit?q={cause}">Who did what about the cause</a>' in page, path
            assert f'href="/console/audit?q={copy}">About this copy</a>' in page, path
        for each, why in ((cause, "Blocked by a moderator."), (listed, "Blocked by an entry of the list ncmec.")):
            page = client.get(f"/console/media/{each}").text
            assert why in page
            assert f'href="/console/audit?q={each}">Who did what</a>' in page
        assert f'<a class="mono" href="/console/media/{copy}"' in client.get(f"/console/media/{cause}").text
        assert "Blocked by a moderator, with 1 copy" in client.get(f"/console/moderation?q={cause}").text
        for text, is_hash in ((f"{cause[:-1]}9", False), ("ef" * 32, True)):
            page = client.get("/console/moderation", params={"q": text}).text
            assert "is neither blocked nor held" in page, text
            assert ("no list has this hash" in page) is is_hash, text
        asked = {
            each: client.get("/console/confirm", params={"action": "unblock", "target": each}).text
            for each in (cause, copy, listed)
        }
        lifted = write_block(replace(block, media_id=copy, cause=cause, state=BlockState.LIFTED))
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"moderation/blocked/{copy}", Body=lifted)
        page = client.get(f"/console/moderation?q={copy}").text
        assert "is neither blocked nor held" in page
        assert f'href="/console/audit?q={cause}">Who did what about the cause</a>' in page
    whole = "The media item and its copies are served again"
    assert {each: whole in page for each, page in asked.items()} == {cause: True, copy: False, listed: False}
    assert link in asked[copy]
    assert "Only this copy is served again." in asked[copy]
    assert "Only this media item is served again." in asked[listed]
    for each in (cause, copy, listed):
        bucket.client.delete_object(Bucket=bucket.bucket, Key=f"moderation/blocked/{each}")


def test_what_the_hook_holds_is_reviewed_and_found_by_its_owner(guarded: Service, bucket: S3Bucket) -> None:
    held = [f"01M88C0SJ305C5J3D3BYCKGE0{number}" for number in range(2)]
    for each in held:
        fields = {"media_id": each, "owner": "gina", "type": "thumbnail"}
        record = Held(each, "2026-11-20T08:00:00.000+00:00", "hook: nudity 0.71", "media_processing_queue", fields)
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"moderation/held/{each}", Body=HELD.write(record))
    with browsing(guarded) as client:
        log_in(client)
        for text in ("gina", "owner:gina"):
            page = client.get("/console/moderation", params={"q": text}).text
            assert all(f'/console/media/{each}"' in page for each in held), text
            assert "neither blocked nor held" not in page
        assert "not the name of a host" in client.get("/console/media", params={"q": "host:foo"}).text
        assert "Held and blocked ones" in client.get("/console/media", params={"q": "owner:gina"}).text
        form = {"form_token": form_token(client.get("/console/moderation")), "decision": "start"}
        assert client.post("/console/review", data=form).status_code == 303
        shown = client.get("/console/review")
        assert shown.status_code == 200
        for part in ("hook: nudity 0.71", "no public media", "1 more held", "none blocked before"):
            assert part in shown.text, part
        with browsing(guarded) as other:
            log_in(other, name="ines")
            asked = other.get("/console/confirm", params={"action": "block", "target": held}).text
        assert re.search(r"operator \(token \w+\) is reviewing 2 of them now\.", asked)
        for each in held:
            client.post("/console/review", data={**form, "decision": "skip", "item": each})
        assert "You skipped 2; all still wait for you." in client.get("/console/review").text
        bucket.client.delete_object(Bucket=bucket.bucket, Key=f"moderation/held/{held[0]}")
        assert "You skipped 2; 1 of them still waits for you." in client.get("/console/review").text
        client.post("/console/review", data={**form, "decision": "release", "item": held[0]})
        ended = client.get("/console/review").text
        assert re.search(
            r"All reviewed[^§]+Your decision about \S+ changed nothing[^§]+Nothing is decided yet\.", ended
        )
        client.post("/console/review", data={**form, "decision": "stop"})
    for each in held:
        bucket.client.delete_object(Bucket=bucket.bucket, Key=f"moderation/held/{each}")


def test_a_host_that_cannot_be_blocked_has_no_block_and_no_list(guarded: Service, bucket: S3Bucket) -> None:
    fields = {"media_id": "fe" * 32, "remote_url": "https://localhost/a.jpg"}
    record = Held("fe" * 32, "2026-11-20T08:00:00.000+00:00", "hook: nudity 0.71", "media_cache_queue", fields)
    key = f"moderation/held/{record.media_id}"
    bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=HELD.write(record))
    with browsing(guarded) as client:
        log_in(client)
        form = {"form_token": form_token(client.get("/console/moderation"))}
        client.post("/console/review", data={**form, "decision": "start"})
        shown = {path: client.get(f"/console/{path}").text for path in ("review", "moderation", "media/" + "fe" * 32)}
        client.post("/console/review", data={**form, "decision": "stop"})
    assert "localhost is not a host on the internet" in shown["review"]
    for path, page in shown.items():
        assert "localhost" in page, path
        assert "host%3Alocalhost" not in page, path
        assert "refuse_host" not in page, path
    bucket.client.delete_object(Bucket=bucket.bucket, Key=key)


def test_a_blocked_host_is_found_by_its_names_and_a_purge_says_how_many_copies_there_are(
    guarded: Service, bucket: S3Bucket
) -> None:
    for digest in ("ab" * 32, "cd" * 32):
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"host/img.bad.example/{digest}.9.attachment", Body=b"")
    with browsing(guarded) as client:
        log_in(client)
        form = {"form_token": form_token(client.get("/console/moderation")), "target": "bad.example"}
        client.post("/console/actions", data=form | {"action": "block_host", "confirmed": "yes"})
        for text in ("bad.example", "img.bad.example", "host:bad.example", "https://img.bad.example/photo.jpg"):
            assert "Nothing is fetched from it" in client.get("/console/moderation", params={"q": text}).text, text
        assert "Nothing is fetched from it" not in client.get("/console/moderation", params={"q": "good.example"}).text
        assert "bad.example" in client.get("/console/audit", params={"q": "block host"}).text
        asked = client.get("/console/confirm", params={"action": "purge_host", "target": "bad.example"}).text
        assert "2 copies now." in asked
        client.post("/console/actions", data=form | {"action": "unblock_host", "confirmed": "yes"})
        assert "Nothing is fetched from it" not in client.get("/console/moderation", params={"q": "bad.example"}).text


def test_a_task_that_may_be_given_up_is_cancelled_from_its_medium(guarded: Service, redis_of_module: str) -> None:
    processing, deletion = "media_processing_queue", "media_delete_queue"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        entry_id = redis.xadd(processing, {"task_id": "t-9", "media_id": MEDIA_ID, "type": "thumbnail"})
        log_in(client)
        page = client.get(f"/console/media/{MEDIA_ID}")
        assert "Cancel…" in page.text
        back = f"/console/media/{MEDIA_ID}"
        assert urlencode({"back": back}) in page.text
        form = {"form_token": form_token(page), "action": "cancel", "confirmed": "yes", "back": back}
        done = client.post("/console/actions", data=form | {"target": f"{processing}/t-9"})
        assert done.headers["Location"].startswith(f"{back}?done=")
        assert "1 task is cancelled" in client.get(done.headers["Location"]).text
        assert b"cancelled:t-9" in redis.hkeys(f"{{{processing}}}:state")
        redis.xdel(processing, entry_id)
        done = client.post("/console/actions", data=form | {"target": f"{deletion}/t-9"})
        assert "tasks of this queue must be done, and cannot be cancelled" in client.get(done.headers["Location"]).text


def test_a_deletion_can_be_undone_until_its_objects_are_removed(guarded: Service, redis_of_module: str) -> None:
    media_id = f"{MEDIA_ID[:-2]}07"
    with redis_py.Redis.from_url(redis_of_module) as redis, browsing(guarded) as client:
        log_in(client)
        deleted = {"state": "marked", "generation": "1795616000000", "due": "1995616000000", "absorbed": "1-0"}
        redis.hset(key_of("media_deletion", media_id), mapping=deleted)
        page = client.get(f"/console/media/{media_id}").text
        assert "until then the deletion can be undone" in page
        assert 'value="undelete"' in page
        redis.hset(key_of("media_deletion", media_id), "state", "removed")
        page = client.get(f"/console/media/{media_id}").text
        assert "Its objects were removed" in page
        assert 'value="undelete"' not in page
