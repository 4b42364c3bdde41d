"""Redis URLs, as people write them for other clients, too."""

from __future__ import annotations

import pytest

from trio_redis import Address, Credentials, RedisTarget, read_redis_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://cache", RedisTarget((Address("cache", 6379),))),
        ("redis://127.0.0.1:7000/3", RedisTarget((Address("127.0.0.1", 7000),), database=3)),
        ("redis://[::1]:7000/", RedisTarget((Address("::1", 7000),))),
        ("redis://a:1,b,c:3", RedisTarget((Address("a", 1), Address("b", 6379), Address("c", 3)))),
        ("redis+cluster://a:1,b:2", RedisTarget((Address("a", 1), Address("b", 2)))),
        ("rediss://a", RedisTarget((Address("a", 6379),), tls=True)),
        ("rediss://a?ssl_ca_certs=/ca.pem", RedisTarget((Address("a", 6379),), tls=True, ssl_ca_certs="/ca.pem")),
        ("redis://a:26379/media/2", RedisTarget((Address("a", 26379),), "media", 2)),
        ("redis+sentinel://a,b:5/media", RedisTarget((Address("a", 26379), Address("b", 5)), "media")),
        ("redis+sentinel://a/7/3", RedisTarget((Address("a", 26379),), "7", 3)),
        ("redis+sentinel://a", RedisTarget((Address("a", 26379),))),
    ],
)
def test_where_it_leads(url: str, target: RedisTarget) -> None:
    assert read_redis_url(url) == target


def test_credentials_are_decoded_and_hold_for_every_server_of_a_plain_url() -> None:
    target = read_redis_url("redis://avion:p%40ss%2Fw,rd@a,b")
    assert target.seeds == (Address("a", 6379), Address("b", 6379))
    assert target.credentials == target.seed_credentials == Credentials("avion", "p@ss/w,rd")


def test_sentinels_have_credentials_of_their_own() -> None:
    target = read_redis_url("redis+sentinel://u:secret@a/media?sentinel_username=watch&sentinel_password=over")
    assert (target.credentials, target.seed_credentials) == (Credentials("u", "secret"), Credentials("watch", "over"))
    assert read_redis_url("redis+sentinel://u:secret@a/media").seed_credentials == Credentials()


@pytest.mark.parametrize(
    "url",
    [
        "", "a:6379", "http://a", "redis://", "redis://a,", "redis://a:port", "redis://a:99999", "redis://a/0/1",
        "redis://a?cluster=yes", "redis+sentinel://a/media/x", "redis://[::1", "unix:///redis.sock",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_in_words_that_help(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected redis://host:port/database"):
        read_redis_url(url)


def test_no_password_is_shown() -> None:
    url = "redis+sentinel://u:secret@a:1,b:2/media?sentinel_password=over&sentinel_username=watch"
    assert "secret" not in repr(read_redis_url(url))
    assert "over" not in repr(read_redis_url(url))
