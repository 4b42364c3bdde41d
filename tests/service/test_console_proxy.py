"""The console of two replicas behind nginx with TLS, by the configuration that we give to operators."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import redis as redis_py
import trustme

from tests.conftest import S3Bucket
from tests.service.harness import running, service_environment
from tests.services import console_nginx
from tests.services.process import free_port

TOKEN = "an-operators-token-of-32-characters"
DEAD = "{media_processing_queue}:dlq"


@dataclass(frozen=True)
class Proxy:
    """The public address, and what a browser trusts."""

    url: str
    trusted: ssl.SSLContext

    @contextmanager
    def browser(self, address: str = "127.0.0.5") -> Iterator[httpx.Client]:
        """A browser at this address: it keeps cookies and says where its forms come from."""
        transport = httpx.HTTPTransport(verify=self.trusted, local_address=address)
        with httpx.Client(base_url=self.url, transport=transport, headers={"Origin": self.url}, timeout=30) as client:
            yield client


@pytest.fixture(scope="module")
def proxy(redis_of_module: str, bucket: S3Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    authority, directory, port = trustme.CA(), tmp_path_factory.mktemp("tls"), free_port()
    certificate = authority.issue_cert("localhost")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(directory / "media-ops.crt", append=True)
    certificate.private_key_pem.write_to_path(directory / "media-ops.key")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    url = f"https://localhost:{port}"
    settings = {"ADMIN__TOKEN": TOKEN, "ADMIN__PUBLIC_URL": url, "ADMIN__TRUSTED_PROXIES": "127.0.0.1/32"}
    first, second = (
        service_environment(redis_of_module, bucket.address.endpoint_url, bucket.bucket, **settings) for _ in range(2)
    )
    replicas = [each["AVION_MEDIA_ADMIN__BIND"] for each in (first, second)]
    with (
        running(first, roles="delete"),
        running(second, roles="delete"),
        console_nginx(port, replicas, directory / "media-ops.crt", directory / "media-ops.key"),
    ):
        yield Proxy(url, trusted)


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None
    return found[1]


def log_in(browser: httpx.Client, token: str = TOKEN) -> httpx.Response:
    form = {"form_token": form_token(browser.get("/console/login")), "token": token, "name": "Zoë"}
    return browser.post("/console/login", data=form)


def test_an_operator_logs_in_acts_and_logs_out_on_whatever_replica(proxy: Proxy, redis_of_module: str) -> None:
    with redis_py.Redis.from_url(redis_of_module) as redis, proxy.browser() as browser:
        letters = [redis.xadd(DEAD, {"task_id": f"t{n}", "media_id": "x", "error": "x"}).decode() for n in range(4)]
        login = log_in(browser)
        assert (login.status_code, login.headers["Location"]) == (303, "/console")
        assert "; secure" in login.headers["Set-Cookie"].lower()
        assert login.headers["Set-Cookie"].startswith("__Host-avion_media_operator=")
        token, replicas = form_token(browser.get("/console")), set()
        for entry_id in letters:
            form = {"action": "drop", "target": f"media_processing_queue/{entry_id}", "confirmed": "yes"}
            done = browser.post("/console/actions", data=form | {"form_token": token})
            assert done.status_code == 303, done.text
            replicas.add(done.headers["X-Replica"])
        assert len(replicas) == 2
        assert not redis.xlen(DEAD)
        assert "Zoë (token " in browser.get("/console/audit").text

        cookies = dict(browser.cookies)
        foreign = browser.post("/console/logout", data={"form_token": token}, headers={"Origin": "https://x.example"})
        assert foreign.status_code == 403
        assert browser.post("/console/logout", data={"form_token": token}).status_code == 303
        with proxy.browser() as thief:
            thief.cookies.update(cookies)
            assert [thief.get("/console").headers.get("Location") for _ in range(4)] == ["/console/login"] * 4


def test_who_guesses_tokens_delays_no_other_client_of_the_proxy(proxy: Proxy) -> None:
    with proxy.browser("127.0.0.6") as stranger, proxy.browser() as operator:
        answers = [log_in(stranger, f"a-wrong-token-of-32-characters-{n}").status_code for n in range(20)]
        assert (answers[0], answers[-1]) == (401, 429)
        assert log_in(operator).status_code == 303


def test_the_proxy_opens_the_console_and_nothing_else(proxy: Proxy) -> None:
    with proxy.browser() as browser:
        assert browser.get("/").headers["Location"].endswith("/console")
        assert [browser.get(path).status_code for path in ("/metrics", "/readyz", "/tree", "/jobs")] == [404] * 4
