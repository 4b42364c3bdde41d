"""The errors of `guarded_fetch` become those of this service, for callers and for the limiter of hosts."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

import guarded_fetch
from avion_media.backends.remote import Fetcher, HostLimiter, Poster, RemoteGone, ServerError, fetching
from avion_media.backends.remote.errors import ResolverTrouble
from avion_media.common.errors import Deferred, Dependency, MediaError, Reason, Rejected, Unavailable
from guarded_fetch import AddressGuard, AddressRefused, FetchCode, RemoteUrl, parse_remote_url
from guarded_fetch.tests.strangers import LOOPBACK, Names, redirect, response, says, stranger

GUARD = AddressGuard(allow_networks=LOOPBACK)


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile(buffering=0) as file:
        yield file.fileno()


class Witness(HostLimiter):
    """Notes which error a request ended with."""

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []

    @asynccontextmanager
    async def admitted(self, url: RemoteUrl, deadline: float, *, redirected: bool = False) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            self.errors.append(error)
            raise
        self.errors.append(None)


async def error_of(answer: bytes, fd: int, *, timeout_s: float = 10.0) -> tuple[MediaError, BaseException | None]:
    """What the caller and the limiter get."""
    witness = Witness()
    fetcher = Fetcher(GUARD, max_bytes=1000, timeout_s=timeout_s, hosts=witness)
    with trio.fail_after(20):
        async with stranger(says(answer)) as server:
            with pytest.raises(MediaError) as caught:
                await fetcher.fetch(parse_remote_url(server.url()), fd)
    return caught.value, witness.errors[-1]


@pytest.mark.parametrize(
    ("status", "header", "of_host", "asked_s", "retry_after_s"),
    [
        (503, "", True, None, 1.0),
        (429, "Retry-After: 120", True, 120.0, 120.0),
        (429, "Retry-After: 999999999999", True, 3600.0, 3600.0),
        (500, "Retry-After: soon", False, None, 1.0),
    ],
)
async def test_a_status_to_come_back_for(
    status: int, header: str, of_host: bool, asked_s: float | None, retry_after_s: float, fd: int
) -> None:
    error, judged = await error_of(response(b"", status=status, headers=[header] if header else []), fd)
    assert isinstance(error, ServerError)
    assert (error.dependency, error.detail) == (Dependency.REMOTE, f"HTTP {status}")
    assert (error.of_host, error.asked_pause_s, error.retry_after_s) == (of_host, asked_s, retry_after_s)
    assert error is judged


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(b"", status=404), "remote_status: HTTP 404"),
        (response(b"", status=403), "remote_status: HTTP 403"),
        (response(b"", status=400), "remote_status: HTTP 400"),
        (response(b"x", headers=["Cache-Control: Private"]), "not_cacheable: Cache-Control: Private"),
        (response(b"x" * 1001), "too_large: announced 1001 bytes"),
        (response(b""), "empty"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "remote_status: not HTTP: b'SSH-2'"),
    ],
)
async def test_a_rejection_has_its_reason(answer: bytes, expected: str, fd: int) -> None:
    error, judged = await error_of(answer, fd)
    gone = "404", "403", "not_cacheable"
    assert type(error) is (RemoteGone if any(each in expected for each in gone) else Rejected)
    assert str(error) == expected
    assert error is judged


async def test_a_server_that_breaks_off_is_unavailable(fd: int) -> None:
    error, judged = await error_of(b"", fd)
    assert type(error) is Unavailable
    assert str(error) == "remote is not available: closed the connection instead of answering"
    assert error is judged


async def test_a_refusal_is_no_answer_to_the_limiter(fd: int) -> None:
    """So that it is neither held against the server nor to its credit."""
    witness = Witness()
    fetcher = Fetcher(
        AddressGuard(), max_bytes=1000, timeout_s=10.0, hosts=witness, resolve=Names({"inner.example": ["10.0.0.1"]})
    )
    with trio.fail_after(20), pytest.raises(Rejected) as caught:
        await fetcher.fetch(parse_remote_url("http://inner.example/"), fd)
    assert str(caught.value) == "remote_refused: address 10.0.0.1"
    assert [type(each) for each in witness.errors] == [AddressRefused]


async def test_the_end_of_its_time_reaches_the_limiter_as_a_cancel(fd: int) -> None:
    async def silent(stream: trio.abc.Stream, _head: bytes) -> None:
        await trio.sleep_forever()

    witness = Witness()
    with trio.fail_after(20):
        async with stranger(silent) as server:
            with pytest.raises(Unavailable, match=r"remote is not available: took longer than 0\.2 s$"):
                await Fetcher(GUARD, max_bytes=1000, timeout_s=0.2, hosts=witness).fetch(
                    parse_remote_url(server.url()), fd
                )
    assert [type(each) for each in witness.errors] == [trio.Cancelled]


async def test_a_blocked_host_is_rejected_also_behind_a_redirect(fd: int) -> None:
    fetcher = Fetcher(GUARD, max_bytes=1000, timeout_s=10.0, is_blocked=lambda host: host == "bad.example")
    with trio.fail_after(20):
        async with stranger(says(redirect("http://bad.example/"))) as server:
            for url in (server.url(), "http://bad.example/"):
                with pytest.raises(Rejected) as caught:
                    await fetcher.fetch(parse_remote_url(url), fd)
                assert (caught.value.reason, caught.value.detail) == (Reason.BLOCKED_HOST, "bad.example")


async def test_pictures_videos_and_sound_are_asked_for(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response())) as server:
            await Fetcher(GUARD, max_bytes=1000, timeout_s=10.0).fetch(parse_remote_url(server.url()), fd)
            await Poster(GUARD, timeout_s=10.0).post(parse_remote_url(server.url()), b"{}", [])
    for request in server.requests:
        assert b"\r\nAccept: image/*, video/*, audio/*, */*;q=0.1\r\n" in request
        assert b"\r\nUser-Agent: avion-media\r\n" in request


async def test_a_post_that_nobody_answers_properly_is_unavailable() -> None:
    with trio.fail_after(20):
        async with stranger(says(b"SSH-2.0-OpenSSH_9.9\r\n")) as server:
            with pytest.raises(Unavailable) as caught:
                await Poster(GUARD, timeout_s=10.0).post(parse_remote_url(server.url()), b"{}", [])
    assert caught.value.detail == "remote_status: not HTTP: b'SSH-2'"
    with pytest.raises(Unavailable) as refused:
        await Poster(AddressGuard(), timeout_s=10.0).post(parse_remote_url("http://10.0.0.1/"), b"{}", [])
    assert refused.value.detail == "address 10.0.0.1"


def test_lookups_are_charged_to_nobody() -> None:
    deferred = fetching._translated(guarded_fetch.TooManyLookups(10.0))
    assert isinstance(deferred, Deferred)
    assert (deferred.detail, deferred.retry_after_s) == ("too many lookups never got an answer", 10.0)
    assert (deferred.expires, deferred.whole_tenant) == (False, False)
    trouble = fetching._translated(guarded_fetch.ResolverTrouble("the resolver did not answer in time"))
    assert isinstance(trouble, ResolverTrouble)
    assert trouble.detail == "the resolver did not answer in time"


def test_each_code_is_a_reason() -> None:
    assert {each.value for each in FetchCode} <= set(Reason)
