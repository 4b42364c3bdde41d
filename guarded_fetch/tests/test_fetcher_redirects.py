"""Redirects: few, each judged as if it had been asked for itself."""

from __future__ import annotations

import pytest
import trio

from guarded_fetch import AddressGuard, parse_remote_url
from guarded_fetch.errors import FetchCode, FetchRejected

from .strangers import LOOPBACK, Behaviour, Names, fetcher, redirect, response, says, stranger


def routes(**answers: bytes) -> Behaviour:
    """Answers by path (without its slash); 404 elsewhere."""

    async def behave(stream: trio.abc.Stream, head: bytes) -> None:
        path = head.split(b" ")[1].decode().partition("?")[0].removeprefix("/")
        await stream.send_all(answers.get(path, response(b"", status=404)))

    return behave


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_on_a_connection_of_its_own(status: int, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(routes(a=redirect("/b?x=1", status), b=response(b"there"))) as server:
            fetched = await fetcher().fetch(parse_remote_url(server.url("/a")), fd)
    assert str(fetched.final_url) == server.url("/b?x=1")
    assert server.connections == 2


@pytest.mark.parametrize(
    "location",
    [
        "/b",
        "b",
        "./b",
        "../../b",
        "?/../b",
        "//{authority}/b",
        "HTTP://{authority}/b",
        "http:/b",
        "http:b",
        "/%62",
        "/b#x",
    ],
)
async def test_relative_locations(location: str, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(says(response(b"there"))) as other:
            answer = redirect(location.format(authority=other.authority))

            async def behave(stream: trio.abc.Stream, head: bytes) -> None:
                await stream.send_all(answer if head.startswith(b"GET /dir/a ") else response(b"there"))

            async with stranger(behave) as here:
                fetched = await fetcher().fetch(parse_remote_url(here.url("/dir/a")), fd)
    assert fetched.size_bytes == 5
    assert fetched.final_url.port == (other.port if "{authority}" in location else here.port)


async def test_a_location_in_utf_8_is_read_as_such(fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(routes(a=redirect("/bücher"), **{"b%C3%BCcher": response(b"there")})) as server:
            fetched = await fetcher().fetch(parse_remote_url(server.url("/a")), fd)
    assert fetched.final_url.target == "/b%C3%BCcher"


async def test_three_redirects_and_no_more(fd: int) -> None:
    answers = {f"{at}": redirect(f"/{at + 1}") for at in range(10)}
    with trio.fail_after(20):
        async with stranger(routes(**{**answers, "3": response(b"there")})) as server:
            assert (await fetcher().fetch(parse_remote_url(server.url("/0")), fd)).size_bytes == 5
        async with stranger(routes(**answers)) as server:
            with pytest.raises(FetchRejected, match="redirects") as caught:
                await fetcher().fetch(parse_remote_url(server.url("/0")), fd)
    assert caught.value.code is FetchCode.REMOTE_STATUS
    assert server.connections == 4


@pytest.mark.parametrize("location", ["/a", "", "#", "a"])
async def test_loops_end(location: str, fd: int) -> None:
    with trio.fail_after(20):
        async with stranger(routes(a=redirect(location))) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher().fetch(parse_remote_url(server.url("/a")), fd)
    assert caught.value.code is FetchCode.REMOTE_STATUS
    assert server.connections <= 4


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/", "//10.0.0.1/", "http://[fd00:ec2::254]/", "http://[::ffff:127.0.0.1]/",
        "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://①⑥⑨.254.169.254/",
        "http://user@127.0.0.1/", "http://a:b@host.example/", "http://host.example\\@127.0.0.1/", "/\\127.0.0.1/",
        "\\\\h\\x",
        "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:6379/_FLUSHALL", "data:image/png,x",
        "javascript:x",
        "http://internal.example/", "http://public.example:22/", "http://public.example:6379/", "http://nowhere.example/",
        "http://[::1", "http://[v1.x]/", "http:///", "http://%31.2.3.4/", "http://denied.example/", "ht\ttp://public.example/",
        "/a b", "http://public.example/\x7f", "http://" + "a" * 3000 + ".example/", "http://public.example:99999/",
        "http://public.example:port/", "//", "///", "httpſ://public.example/",
    ],
)  # fmt: skip
async def test_a_redirect_to_where_nobody_may_go_is_refused(location: str, fd: int) -> None:
    names = Names({"internal.example": ["10.1.2.3"], "public.example": ["93.184.216.34"]})
    guard = AddressGuard(deny_hosts=["denied.example"], allow_networks=LOOPBACK)

    with trio.fail_after(20):
        async with stranger(routes(a=redirect(location))) as server:
            with pytest.raises(FetchRejected) as caught:
                await fetcher(guard=guard, resolve=names).fetch(parse_remote_url(server.url("/a")), fd)
    assert caught.value.code in (FetchCode.REMOTE_REFUSED, FetchCode.REMOTE_STATUS)
    # Some are a place on the same server to one reading, and nothing at all to another: there it may look.
    assert caught.value.code is FetchCode.REMOTE_REFUSED or location in (
        "//",
        "///",
        "http:///",
        "httpſ://public.example/",
    )
