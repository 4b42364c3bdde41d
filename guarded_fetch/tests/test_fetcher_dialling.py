"""Names, addresses and TLS: what is dialled is what was vetted, and the name still counts."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trio
import trio.testing
import trustme

from guarded_fetch import AddressGuard, FetchTimeouts, dial, parse_remote_url
from guarded_fetch.errors import FetchCode, FetchRejected, FetchUnavailable, ResolverTrouble, TooManyLookups

from .strangers import LOOPBACK, Names, fetcher, redirect, response, says, stranger


async def test_a_name_is_resolved_once_and_the_literal_dialled(fd: int) -> None:
    names = Names()
    names.add("media.example", ["127.0.0.1"], ["169.254.169.254"])
    with trio.fail_after(20):
        async with stranger(says(response())) as server:
            await fetcher(resolve=names).fetch(parse_remote_url(f"http://Media.Example.:{server.port}/"), fd)
    assert names.asked == ["media.example"]
    assert f"Host: media.example:{server.port}".encode() in server.requests[0]


async def test_rebinding_between_two_hops_is_refused(fd: int) -> None:
    names = Names()
    names.add("media.example", ["127.0.0.1"], ["10.0.0.1"])
    with trio.fail_after(20):
        async with stranger(says(redirect("/again"))) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher(resolve=names).fetch(parse_remote_url(f"http://media.example:{server.port}/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED
    assert server.connections == 1


@pytest.mark.parametrize(
    "bad", ["10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fd00::1", "fe80::1%lo", "::", "junk", ""]
)
@pytest.mark.parametrize("first", [True, False])
async def test_one_bad_answer_among_good_ones_refuses_all(bad: str, first: bool, fd: int) -> None:
    names = Names({"media.example": [bad, "127.0.0.1"] if first else ["127.0.0.1", bad]})
    with trio.fail_after(20):
        async with stranger(says(response())) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher(resolve=names).fetch(parse_remote_url(f"http://media.example:{server.port}/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED
    assert server.connections == 0


@pytest.mark.parametrize("answers", [[], [f"127.0.1.{last}" for last in range(65)]])
async def test_no_answers_or_a_flood_of_them_are_refused(answers: list[str], fd: int) -> None:
    names = Names({"media.example": answers})
    with pytest.raises(FetchRejected) as caught:
        await fetcher(resolve=names).fetch(parse_remote_url("http://media.example/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED


async def test_a_dead_family_costs_one_attempt(fd: int) -> None:
    names = Names({"media.example": [*(f"127.0.0.{last}" for last in range(2, 9)), "::1"]})
    with trio.fail_after(20):
        async with stranger(says(response()), host="::1") as server:
            await fetcher(resolve=names).fetch(parse_remote_url(f"http://media.example:{server.port}/"), fd)
    assert server.connections == 1


async def test_ipv6_literals(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response()), host="::1") as server:
            await fetcher().fetch(parse_remote_url(server.url()), fd)
    assert f"Host: [::1]:{server.port}".encode() in server.requests[0]


async def test_nobody_listens(fd: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(FetchUnavailable, match="refused"):
            await fetcher().fetch(parse_remote_url(f"http://127.0.0.1:{unused.getsockname()[1]}/"), fd)


async def test_a_denied_host_is_refused_before_its_name_is_asked_for(fd: int) -> None:
    guard = AddressGuard(deny_hosts=["denied.example"])
    with pytest.raises(FetchRejected) as caught:
        await fetcher(guard=guard).fetch(parse_remote_url("http://a.denied.example/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_a_name_that_does_not_exist_looks_like_one_that_leads_inside(code: int, fd: int) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(code, "no")

    with pytest.raises(FetchRejected) as caught:
        await fetcher(resolve=resolve).fetch(parse_remote_url("http://redis.internal/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED


async def test_a_resolver_in_trouble_may_recover(fd: int) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    with pytest.raises(ResolverTrouble):
        await fetcher(resolve=resolve).fetch(parse_remote_url("http://media.example/"), fd)


@pytest.mark.parametrize(("timeout_s", "left_after_s"), [(60.0, FetchTimeouts().resolve_s), (5.0, 2.5)])
async def test_a_slow_resolver_is_left(
    timeout_s: float, left_after_s: float, fd: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Before the fetch's own deadline, which would be held against the server."""

    async def resolve(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    started = trio.current_time()
    with pytest.raises(ResolverTrouble, match="in time"):
        await fetcher(resolve=resolve, timeout_s=timeout_s).fetch(parse_remote_url("http://media.example/"), fd)
    assert trio.current_time() - started == left_after_s


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The system's resolver answers for ``*.slow.example`` and ``*.slower.example`` only once this is set."""
    release = threading.Event()

    def getaddrinfo(host: str, port: int) -> list[str]:
        if host.endswith((".slow.example", ".slower.example")):
            release.wait(10)
        return ["127.0.0.1"]

    monkeypatch.setattr(dial, "_getaddrinfo", getaddrinfo)
    yield release
    release.set()


async def give_up(*hosts: str) -> None:
    """Ask for all of them at once, and leave them all without an answer."""
    async with trio.open_nursery() as nursery:
        for host in hosts:
            nursery.start_soon(dial.resolve_by_system, host, 80)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_stuck_lookups_hold_only_threads_of_their_own(stuck: threading.Event) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(dial.resolve_by_system, f"{number}.slow.example", 80)
            await trio.testing.wait_all_tasks_blocked()
            assert await dial.resolve_by_system("media.example", 80) == ["127.0.0.1"]
            assert await trio.to_thread.run_sync(lambda: "free") == "free"
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            nursery.cancel_scope.cancel()


async def test_names_of_a_domain_that_never_answers_are_put_off_and_others_are_not(stuck: threading.Event) -> None:
    with trio.fail_after(20):
        await give_up(*(f"{number}.slow.example" for number in range(7)))
        await give_up("8.slow.example")
        assert await dial.resolve_by_system("media.test", 80) == ["127.0.0.1"]
        with pytest.raises(TooManyLookups) as caught:
            await dial.resolve_by_system("9.slow.example", 80)
        assert caught.value.retry_after_s == 10.0
        stuck.set()
        await answered("9.slow.example")


async def test_many_domains_that_never_answer_have_everybody_put_off(
    stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Charged to nobody: see `TooManyLookups`."""
    monkeypatch.setattr(dial, "_MAX_ABANDONED", 4)
    with trio.fail_after(20):
        await give_up("a.slow.example", "b.slow.example", "a.slower.example", "b.slower.example")
        with pytest.raises(TooManyLookups):
            await dial.resolve_by_system("media.test", 80)
        stuck.set()
        await answered("media.test")


async def answered(host: str) -> None:
    """Ask until there is an answer: threads end when they like."""
    while True:
        try:
            assert await dial.resolve_by_system(host, 80) == ["127.0.0.1"]
        except TooManyLookups:
            await trio.sleep(0.01)
        else:
            return


async def test_the_systems_resolver_gives_each_address_once() -> None:
    assert "127.0.0.1" in await dial.resolve_by_system("localhost", 80)
    answers = await dial.resolve_by_system("localhost", 80)
    assert len(answers) == len(set(answers))


async def test_a_peer_that_is_not_who_was_dialled_is_refused(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a transparent proxy, or a socket library that thinks for itself."""
    connect = trio.open_tcp_stream

    async def elsewhere(host: str, port: int) -> trio.SocketStream:
        return await connect("127.0.0.1", port)

    with trio.fail_after(20):
        async with stranger(says(response())) as server:
            monkeypatch.setattr(trio, "open_tcp_stream", elsewhere)
            with pytest.raises(FetchRejected) as caught:
                await fetcher().fetch(parse_remote_url(f"http://127.0.0.2:{server.port}/"), fd)
    assert caught.value.code is FetchCode.REMOTE_REFUSED
    assert server.requests == []


PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


async def test_proxies_in_the_environment_are_not_used(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"proxied"))) as canary, stranger(says(response(b"direct"))) as server:
            for variable in PROXY_VARIABLES:
                monkeypatch.setenv(variable, f"http://127.0.0.1:{canary.port}")
            monkeypatch.setenv("NO_PROXY", "")
            await fetcher().fetch(parse_remote_url(server.url()), fd)
            with pytest.raises(FetchRejected):
                await fetcher(guard=AddressGuard()).fetch(parse_remote_url("https://127.0.0.1/"), fd)
    assert os.pread(fd, 100, 0) == b"direct"
    assert canary.connections == 0


@dataclass
class Authority:
    """A certificate authority, and a client context that trusts it."""

    ca: trustme.CA
    client: ssl.SSLContext

    def server(self, *names: str) -> tuple[ssl.SSLContext, list[str | None]]:
        """A server's context with a certificate for these names, and the SNI names that it will be asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        asked: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: asked.append(name)
        return context, asked


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA of this module."""
    ca = trustme.CA()
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Authority(ca, client)


async def test_tls_keeps_the_name_while_a_literal_is_dialled(authority: Authority, fd: int) -> None:
    tls, asked = authority.server("media.example")
    protocols = []

    async def behave(stream: trio.abc.Stream, _head: bytes) -> None:
        assert isinstance(stream, trio.SSLStream)
        protocols.append(stream.selected_alpn_protocol())
        await stream.send_all(response(b"secret"))

    with trio.fail_after(20):
        async with stranger(behave, tls=tls) as server:
            url = parse_remote_url(f"https://media.example:{server.port}/a")
            names = Names({"media.example": ["127.0.0.1"]})
            fetched = await fetcher(resolve=names, tls=authority.client).fetch(url, fd)
    assert fetched.size_bytes == 6
    assert asked == ["media.example"]
    assert protocols == ["http/1.1"]  # though the server would rather speak h2


async def test_tls_to_a_literal_checks_the_address(authority: Authority, fd: int) -> None:
    tls, asked = authority.server("127.0.0.1")
    with trio.fail_after(20):
        async with stranger(says(response(b"secret")), tls=tls) as server:
            await fetcher(tls=authority.client).fetch(parse_remote_url(server.url(scheme="https")), fd)
    assert asked == [None]


@pytest.mark.parametrize("names", [("other.example",), ("127.0.0.1",), ("*.media.example",), ("example",)])
async def test_a_certificate_for_another_name_is_not_accepted(
    names: tuple[str, ...], authority: Authority, fd: int
) -> None:
    tls, _ = authority.server(*names)
    resolver = Names({"media.example": ["127.0.0.1"]})
    with trio.fail_after(20):
        async with stranger(says(response()), tls=tls) as server:
            url = parse_remote_url(f"https://media.example:{server.port}/")
            with pytest.raises(FetchUnavailable, match="TLS failed"):
                await fetcher(resolve=resolver, tls=authority.client).fetch(url, fd)
    assert server.requests == []


async def test_an_unknown_authority_is_not_accepted(authority: Authority, fd: int) -> None:
    tls, _ = authority.server("127.0.0.1")
    with trio.fail_after(20):
        async with stranger(says(response()), tls=tls) as server:
            with pytest.raises(FetchUnavailable, match="TLS failed"):
                await fetcher().fetch(parse_remote_url(server.url(scheme="https")), fd)
    assert server.requests == []


async def test_what_speaks_no_tls_or_says_nothing_is_left(authority: Authority, fd: int) -> None:
    hasty = fetcher(tls=authority.client, timeouts=FetchTimeouts(handshake_s=0.2))
    with trio.fail_after(20):
        async with stranger(says(b"")) as silent:
            with pytest.raises(FetchUnavailable, match="no TLS"):
                await hasty.fetch(parse_remote_url(silent.url(scheme="https")), fd)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _greets_in_clear, [listener])
            with pytest.raises(FetchUnavailable, match="TLS failed"):
                await hasty.fetch(parse_remote_url(f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"), fd)
            nursery.cancel_scope.cancel()


async def _greets_in_clear(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.send_all(b"HTTP/1.1 400 speak TLS\r\n\r\n")


async def test_from_https_never_back_to_http(authority: Authority, fd: int) -> None:
    tls, _ = authority.server("127.0.0.1")
    with trio.fail_after(20):
        async with stranger(says(response())) as plain, stranger(says(redirect(plain.url())), tls=tls) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher(tls=authority.client).fetch(parse_remote_url(server.url(scheme="https")), fd)
            assert (caught.value.code, plain.connections) == (FetchCode.REMOTE_REFUSED, 0)


async def test_from_http_up_to_https(authority: Authority, fd: int) -> None:
    tls, _ = authority.server("127.0.0.1")
    with trio.fail_after(20):
        async with (
            stranger(says(response(b"up")), tls=tls) as secure,
            stranger(says(redirect(secure.url(scheme="https")))) as server,
        ):
            fetched = await fetcher(tls=authority.client).fetch(parse_remote_url(server.url()), fd)
    assert (fetched.final_url.scheme, fetched.size_bytes) == ("https", 2)


def test_loopback_is_what_these_tests_may_reach() -> None:
    """The guard of `fetcher` is no wider than the tests need."""
    assert {str(each) for each in LOOPBACK} == {"127.0.0.0/8", "::1/128"}
    assert all(ipaddress.ip_network(each).is_loopback for each in LOOPBACK)
