"""Which URLs belong to this installation: by name, or by address and port, not by spelling."""

from __future__ import annotations

import pytest

from avion_media.backends.remote import OwnUrls
from guarded_fetch import parse_remote_url

OWN = OwnUrls(
    ["https://Media.Bücher.example/base", "", "http://10.1.2.3:8080", "http://[::1]:8080", "http://localhost:9000"],
    "https://Store.example",
    "our-bucket",
)


@pytest.mark.parametrize(
    "url",
    [
        "https://media.bücher.example/x",
        "HTTP://MEDIA.XN--BCHER-KVA.EXAMPLE./x",
        "http://media.bücher.example:443/x",
        "https://media.bücher.example:80/x",
        "https://media.bücher.example:8443/x",
        "http://localhost:9000/x",
        "http://10.1.2.3:8080/media/x",
        "https://10.1.2.3:8080/media/x",
        "http://[::ffff:10.1.2.3]:8080/x",
        "http://[0:0::1]:8080/",
        "https://store.example/our-bucket/original/x",
        "http://store.example.:80/our-bucket?list-type=2",
        "https://store.example/our-bucket",
        "https://store.example//our-bucket/x",
        "https://store.example/%6Fur-bucket/x",
        "https://store.example/our-bucket%2Fx",
        "https://store.example/other/../our-bucket/x",
        "https://store.example:7480/our-bucket/x",
        "https://our-bucket.store.example/original/x",
    ],
)
def test_a_url_of_this_installation(url: str) -> None:
    assert parse_remote_url(url) in OWN


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9001/x",
        "https://bücher.example/x",
        "https://cdn.media.bücher.example/x",
        "http://10.1.2.3:8081/x",
        "http://10.1.2.3/x",
        "https://store.example/our-bucket-2/x",
        "https://store.example/other/our-bucket/x",
        "https://other.store.example/our-bucket/x",
    ],
)
def test_a_url_of_others(url: str) -> None:
    assert parse_remote_url(url) not in OWN


def test_without_settings_no_url_is_own() -> None:
    assert parse_remote_url("https://a.example/") not in OwnUrls()
