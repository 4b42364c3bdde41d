"""How the console writes times, names and reasons."""

from __future__ import annotations

import pytest

from avion_media.backends.queue import detail_of, reason_of
from avion_media.common.errors import ADVICE, MEANINGS, Reason
from avion_media.servers.console.wording import advice, ago, as_host, duration, meaning, short, when


def test_every_reason_has_its_sentence_and_what_to_do() -> None:
    assert set(MEANINGS) == set(ADVICE) == set(Reason)
    for reason in Reason:
        assert meaning(reason)[0].isupper()
        assert meaning(reason).endswith(".")
        assert advice(reason).endswith(".")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3, "3 s"),
        (59, "55 s"),
        (60, "1 min"),
        (372, "6 min"),
        (3600, "1 h"),
        (8700, "2 h 25 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_and_are_coarse_below_a_minute(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times_are_relative_and_exact_in_the_title() -> None:
    assert (ago(1000, 1005), ago(1000, 1130), ago(1130, 1000)) == ("just now", "2 min ago", "in 2 min")
    assert when(1_795_616_186.3, 1_795_616_486.3) == (
        '<time datetime="2026-11-25T14:16:26Z" title="25 Nov 2026, 14:16:26 UTC">5 min ago</time>'
    )


def test_names_lose_their_middle_and_never_their_end() -> None:
    assert short("01M88C0SJ305C5J3D3BYCKGCA5") == "01M88C0S…CKGCA5"
    assert short("https://photos.example/a/b/8f2c1d.heic?x=1") == "photos.example/…/8f2c1d.heic"
    assert short("not a url") == "not a url"


def test_a_host_is_one_that_can_be_blocked() -> None:
    names = ("Bad.Example.", "192.0.2.7", "localhost", "not a host")
    assert [as_host(each) for each in names] == ["bad.example", "192.0.2.7", "", ""]


def test_an_error_is_its_code_and_the_rest() -> None:
    assert (reason_of("internal: KeyError: 'x'"), detail_of("internal: KeyError: 'x'")) == ("internal", "KeyError: 'x'")
    assert (reason_of("something else: x"), detail_of("something else: x")) == ("", "something else: x")
