"""One reading of every URL, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guarded_fetch.url import InvalidUrl, parse_remote_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTPS://Example.ORG:443/A%2fb?q=%e4#frag", "https://example.org/A%2Fb?q=%E4"),
        ("http://example.org:8080/x", "http://example.org:8080/x"),
        ("https://example.org./x", "https://example.org/x"),
        ("https://bücher.example/ä b".replace(" ", ""), "https://xn--bcher-kva.example/%C3%A4b"),
        ("http://[2001:0DB8::1]/", "http://[2001:db8::1]/"),
        ("http://1.2.3.4/", "http://1.2.3.4/"),
        ("https://example.org?x=1", "https://example.org/?x=1"),
        ("https://media_1.example.org/a.png", "https://media_1.example.org/a.png"),
        ("https://example.org/100%", "https://example.org/100%25"),
        ("https://example.org/a/./b/%2E%2e/c/../d", "https://example.org/a/d"),
        ("https://example.org/../../a/..", "https://example.org/"),
        ("https://example.org/a/%2e?x=/../y", "https://example.org/a/?x=/../y"),
        ("https://example.org/a//../b%2f..", "https://example.org/a/b%2F.."),
        ("https://example.org/%7Euser/[1]|^`", "https://example.org/%7Euser/%5B1%5D%7C%5E%60"),
        ("https://XN--LS8H.la/", "https://xn--ls8h.la/"),
        ("https://exa\u00admple.org/", "https://example.org/"),
        ("https://ｅｘａｍｐｌｅ。ｏｒｇ。/", "https://example.org/"),
        ("http://example.org:00080/", "http://example.org/"),
        ("http://example.org:/", "http://example.org/"),
    ],
)
def test_normal_form(text: str, expected: str) -> None:
    url = parse_remote_url(text)
    assert str(url) == expected
    assert parse_remote_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://x/", "data:,x",
        "javascript:alert(1)", "http:/example.org/", "http:///x", "http://", "http://?x", "http://#x",
        "http://user@example.org/", "http://user:pass@example.org/", "http://a@b@c/", "http://example.org@127.0.0.1/",
        "http://example.org:0/", "http://example.org:65536/", "http://example.org:8o/", "http://example.org:-1/",
        "http://exa mple.org/", "http://example.org/\r\nHost: x", "http://example.org\t/", "http://example.org\\@127.0.0.1/",
        "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.0.0.1.2/",
        "http://1.2.3.256/", "http://0x7f.1/", "http://foo.0x7f/", "http://1.2.3.4.5/", "http://%31%32%37.0.0.1/",
        "http://[::1/", "http://[::1%25eth0]/", "http://[::1]x/", "http://[1.2.3.4]/", "http://[:::1]/", "http://::1/",
        "http://-a-/", "http://a..b/", "http://.a/", "http://" + "a" * 64 + ".org/", "http://" + "a." * 130 + "org/",
        "http://example.org/" + "a" * 2048, "http://example.org/" + "ä" * 500, "http://" + "ä" * 300 + ".org/",
        "httpſ://example.org/", "httpſ://example.org:443/", "http://example.org/\ud800", "http://\udcff.org/",
        "http://1.2.3.4../", "http://a_ä.example/", "http://xn--.../", "http://example.org:８０/", "http://a。。b/",
        "http://①②⑦.⓪.⓪.①.x@y/", "http://exa\x00mple.org/", "http://example.org/\x7f",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_remote_url(text)


def test_unicode_digits_become_the_address_they_spell() -> None:
    assert parse_remote_url("http://①②⑦.0.0.1/").host == "127.0.0.1"


def _parses_into_its_normal_form_or_is_invalid(text: str) -> None:
    for candidate in (text, f"http://{text}", f"https://example.org/{text}"):
        try:
            url = parse_remote_url(candidate)
        except InvalidUrl:
            continue
        assert parse_remote_url(str(url)) == url


@given(st.text(max_size=60))
def test_arbitrary_text_never_raises_anything_else(text: str) -> None:
    _parses_into_its_normal_form_or_is_invalid(text)


@given(st.text("/.%2eE?#:@[]\\ ſäK。①\ud800x0", max_size=40))
def test_odd_characters_never_raise_anything_else(text: str) -> None:
    _parses_into_its_normal_form_or_is_invalid(text)
