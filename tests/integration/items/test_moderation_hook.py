"""The hook: its answers, its deadline and its breaker; and the example that asks Hasher-Matcher-Actioner."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from avion_media.backends.redis import Redis, open_redis
from avion_media.backends.remote import breaker_state
from avion_media.items.moderation.hook import Hook, Opinion
from avion_media.items.settings import ModerationConfig
from guarded_fetch import parse_remote_url
from tests.service.harness import eventually
from tests.services.http import serving
from tests.services.process import free_port

ROOT = Path(__file__).resolve().parents[3]
PDQ = "f8f8f0cce0f4a84f0e370a22028f67f0b36e2ed596623e1d33e6b39c4e9c9b22"
FACTS = {
    "media_id": "m",
    "private": False,
    "content_type": "image/jpeg",
    "hashes": {"uploaded": {"md5": "0" * 32}, "published": {}, "pdq": PDQ},
}
Answer = Callable[[str, bytes], tuple[int, object]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """A server whose answers to GET and POST are JSON; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = answer(self.path, body)
            written = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        do_POST = do_GET

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url) as redis:
        yield redis


async def test_the_hook_gets_facts_and_its_answer_counts(redis: Redis) -> None:
    asked: list[dict[str, Any]] = []

    def answer(_path: str, body: bytes) -> tuple[int, object]:
        asked.append(json.loads(body))
        return 200, {"action": "refuse", "label": "seen before"}

    with server(answer) as url:
        without = Hook(ModerationConfig(hook_url=url), redis)
        assert await without.ask(FACTS, b"picture") == Opinion("refuse", "seen before")
        await Hook(ModerationConfig(hook_url=url, hook_sends_file=True), redis).ask(FACTS, b"picture")
        private = {**FACTS, "private": True}
        for pictures in (False, True):
            config = ModerationConfig(hook_url=url, hook_sends_file=True, hook_private_pictures=pictures)
            await Hook(config, redis).ask(private, b"picture")
    picture = {"picture": "cGljdHVyZQ=="}
    assert asked == [FACTS, FACTS | picture, private, private | picture]


async def test_a_hook_that_fails_has_the_configured_answer_and_is_paused_for_all_replicas(redis: Redis) -> None:
    asked = 0

    def answer(_path: str, _body: bytes) -> tuple[int, object]:
        nonlocal asked
        asked += 1
        return [(500, {}), (200, []), (200, {"action": "burn"}), (200, {"action": None}), (404, {})][asked - 1]

    with server(answer) as url, capture_logs() as logs:
        config = ModerationConfig(hook_url=url, hook_unavailable="publish")
        replicas = Hook(config, redis), Hook(config, redis)
        for number in range(7):
            opinion = await replicas[number % 2].ask(FACTS)
            assert opinion == Opinion("publish", "the hook is unavailable")
        state = await breaker_state(redis, parse_remote_url(url).server)
    assert asked == 5
    assert state is not None
    assert state.paused_until > time.time() + 10
    assert [each["event"] for each in logs] == ["hook.failed"] * 5


async def test_a_hook_that_hangs_is_not_waited_for(redis: Redis) -> None:
    released = threading.Event()

    def answer(_path: str, _body: bytes) -> tuple[int, object]:
        released.wait(30)
        return 200, {"action": "publish"}

    with server(answer) as url, capture_logs():
        opinion = await Hook(ModerationConfig(hook_url=url, hook_timeout=0.05), redis).ask(FACTS)
        released.set()
    assert opinion.action == "hold"


def test_the_example_asks_a_hasher_matcher_actioner() -> None:
    """By the contract of HMA 1.0.12 to 1.1.7: `GET /m/lookup` of one signal answers banks with their matches, 400 for
    types that it does not know. Up to 1.0.11 it answered a list of banks."""

    def hma(path: str, _body: bytes) -> tuple[int, object]:
        query = parse_qs(urlsplit(path).query)
        if not path.startswith("/m/lookup?") or query["signal_type"][0] not in ("pdq", "video_md5"):
            return 400, {"message": f"No such SignalType '{query['signal_type'][0]}'"}
        match = [{"bank_content_id": 1, "distance": "4"}]
        if query["signal_type"] == ["video_md5"]:
            return 200, {"CONFIRMED": match}
        if query["signal"] == ["f" * 64]:
            return 200, ["LIKELY"]
        return 200, {"LIKELY": match} if query["signal"] == [PDQ] else {}

    port = free_port()
    with server(hma) as url:
        environment = {"HMA_URL": url, "REFUSE_BANKS": "CONFIRMED"}
        process = subprocess.Popen([sys.executable, ROOT / "ops/moderation/hma-hook", str(port)], env=environment)
        try:

            def ask(**changed: object) -> httpx.Response | None:
                facts = {**FACTS, **changed}
                try:
                    return httpx.post(
                        f"http://127.0.0.1:{port}/", json=facts, trust_env=False, verify=False, timeout=10
                    )
                except httpx.ConnectError:
                    return None

            first = eventually(ask, "the example to listen")
            others = [
                ask(hashes={"uploaded": {}, "published": {}, "pdq": "0" * 64}),
                ask(content_type="video/mp4"),
                ask(hashes={}),
                ask(hashes={"uploaded": {}, "published": {}, "pdq": "f" * 64}),
            ]
        finally:
            process.kill()
            process.wait()
    answers = [each.json() for each in (first, *others[:2]) if each is not None]
    assert answers == [
        {"action": "hold", "label": "LIKELY"},
        {"action": "publish", "label": ""},
        {"action": "refuse", "label": "CONFIRMED"},
    ]
    assert [each.status_code for each in others[2:] if each is not None] == [502, 502]
