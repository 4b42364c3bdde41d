"""Tokens of private media: what opens one item opens nothing else, and what was changed opens nothing."""

from __future__ import annotations

import base64
import random
import string
from typing import Any, cast

import pytest

from avion_media.common.errors import Dependency, Unavailable
from avion_media.common.formats import FORMATS, JPEG
from avion_media.common.ids import is_private, new_media_id, parse_media_id
from avion_media.common.resources import ResourceSlot
from avion_media.items.private import access, token_keys
from avion_media.items.private.access import PrivateMedia, Refusal
from avion_media.items.private.revocations import Revocation
from avion_media.items.private.token_keys import TokenKey, TokenKeys, TooManyKeys
from avion_media.items.private.tokens import Token, audience_tag, seal, unseal

ALPHABET = string.ascii_letters + string.digits + "-_"
NOW = 1_800_000_000
DAY_S = 86_400
KEY = TokenKey(1, NOW - DAY_S, b"k" * 32)
MINE, OTHER = (new_media_id(JPEG, 1_790_000_000_000 + number, private=True) for number in range(2))


def test_the_id_says_that_a_media_item_is_private() -> None:
    for fmt in FORMATS:
        for private in (False, True):
            made = new_media_id(fmt, 1_790_000_000_000, private=private)
            assert parse_media_id(made.text) == made
            assert (made.format, made.is_private, is_private(made.text)) == (fmt, private, private)
    assert not is_private("0" * 64)


class Replay:
    """Answers a lookup: nothing is lost."""

    def __init__(self) -> None:
        self.is_deleted = False
        self.revocation = Revocation(0)
        self.items = cast("Any", self)
        self.store: ResourceSlot[Any] = ResourceSlot(Dependency.STORE)

    async def look_up_private(self, _media_id: str, _tag: str) -> tuple[bool, Revocation]:
        return self.is_deleted, self.revocation


@pytest.fixture
def replay() -> Replay:
    return Replay()


@pytest.fixture
def private(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> PrivateMedia:
    for module in (access, token_keys):
        monkeypatch.setattr(module, "now_s", lambda: NOW)
    made = PrivateMedia(cast("Any", replay), DAY_S)

    async def current(_max_age_s: float) -> TokenKeys:
        return TokenKeys((KEY,))

    monkeypatch.setattr(made.keyring, "_current", current)
    return made


def token(expires_in_s: int = 60, generation: int = 0, audience: str = "", media_id: str = MINE.text) -> str:
    tag = audience_tag(media_id, audience)
    return seal(KEY.secret, media_id, Token(KEY.number, NOW + expires_in_s, generation, tag))


async def test_ten_thousand_wrong_tokens_open_nothing(private: PrivateMedia, replay: Replay) -> None:
    source = random.Random(37)
    replay.revocation = Revocation(1, 1)
    refusals = dict.fromkeys(Refusal, 0)
    for number in range(10_000):
        text, expected = _wrong(source, number % 5)
        found = await private.check(MINE, text)
        assert found is expected, text
        refusals[found] += 1
    assert refusals == {Refusal.FORGED: 6000, Refusal.REVOKED: 2000, Refusal.DELETED: 0, Refusal.EXPIRED: 2000}
    assert await private.check(MINE, token(generation=1)) == 60


def _wrong(source: random.Random, kind: int) -> tuple[str, Refusal]:
    good = token(source.randint(1, 10**6), 1, str(source.random()))
    match kind:
        case 0:  # one character is another
            at = source.randrange(48)
            return good[:at] + source.choice(ALPHABET.replace(good[at], "")) + good[at + 1 :], Refusal.FORGED
        case 1:  # cut, or longer
            return good[: source.randrange(48)] + "=" * source.randrange(2), Refusal.FORGED
        case 2:
            return token(generation=1, media_id=OTHER.text), Refusal.FORGED
        case 3:
            return token(source.randint(1, 10**6), 0), Refusal.REVOKED
    return token(-source.randint(0, 10**6), 1), Refusal.EXPIRED


async def test_the_order_of_the_answers(private: PrivateMedia, replay: Replay) -> None:
    expired = token(0)
    assert await private.check(MINE, token(1)) == 1
    assert await private.check(MINE, expired) is Refusal.EXPIRED
    replay.is_deleted = True
    assert await private.check(MINE, expired) is await private.check(MINE, token()) is Refusal.DELETED
    replay.revocation = Revocation(1, 0, {audience_tag(MINE.text, ""): 1})
    assert await private.check(MINE, expired) is Refusal.REVOKED
    assert await private.check(MINE, token(audience="ada")) is Refusal.DELETED
    assert await private.check(MINE, expired[:-1]) is await private.check(OTHER, expired) is Refusal.FORGED


def test_a_token_has_36_bytes() -> None:
    text = token(60, 5, "ada")
    raw = base64.urlsafe_b64decode(text)
    assert (len(text), len(raw), raw[0]) == (48, 36, 1)
    assert int.from_bytes(raw[1:5]) == NOW + 60
    assert int.from_bytes(raw[5:8]) == 5
    assert unseal(KEY.secret, MINE.text, text) == Token(1, NOW + 60, 5, raw[8:16].hex())
    assert audience_tag(MINE.text, "ada") != audience_tag(OTHER.text, "ada")


def test_a_revocation_refuses_what_was_signed_before() -> None:
    ada, bob = (audience_tag(MINE.text, each) for each in ("ada", "bob"))
    first = Revocation(0).next(ada, NOW)
    old, new = (Token(1, NOW, generation, ada) for generation in (0, first.generation))
    assert first.refuses(old)
    assert not first.refuses(new)
    assert not first.refuses(Token(1, NOW, 0, bob))
    second = first.next(bob, NOW)
    assert second.generation > first.generation
    assert second.refuses(old)
    assert not second.refuses(new)
    everything = second.next(None, NOW)
    assert everything.refuses(Token(1, NOW, second.generation, bob))
    assert everything.audiences == {}
    # One that is made after the record was removed does not begin anew.
    assert Revocation(0).next(None, NOW + 8 * DAY_S).refuses(Token(1, NOW + 9 * DAY_S, everything.generation, ada))
    assert first.next(bob, NOW + 9 * DAY_S).audiences.keys() == {bob}


def test_a_record_without_room_for_an_audience_refuses_all_tokens() -> None:
    full = Revocation(1, 0, {f"{number:016x}": 10**6 for number in range(4000)})
    assert len(full.next(f"{0:016x}", NOW).audiences) == 4000
    one_more = full.next("f" * 16, NOW)
    assert (one_more.all, one_more.audiences) == (one_more.generation, {})


def test_generations_do_not_run_ahead_of_time_without_end() -> None:
    revocation = Revocation(0).next(None, NOW)
    for _ in range(5000):
        revocation = revocation.next(None, NOW)
    with pytest.raises(Unavailable):
        revocation.next(None, NOW)
    assert revocation.next(None, NOW + 3600).generation > revocation.generation


def test_a_new_key_signs_after_a_minute_and_an_old_one_verifies_as_long_as_its_tokens() -> None:
    first = TokenKeys().rotated(NOW, DAY_S)
    assert first.signing(NOW).number == 1
    both = first.rotated(NOW + 10, DAY_S)
    assert [both.signing(NOW + 10 + each).number for each in (0, 59, 60)] == [1, 1, 2]
    end = NOW + 10 + 60 + DAY_S
    assert both.verifying(end - 1, DAY_S).keys() == {1, 2}
    assert both.verifying(end, DAY_S).keys() == {2}
    assert [each.number for each in both.rotated(end, DAY_S).keys] == [2, 3]
    assert "k" * 8 not in repr(TokenKeys((KEY,)))


def test_numbers_of_keys_are_used_again_when_their_tokens_have_expired() -> None:
    many = TokenKeys()
    for number in range(255):
        many = many.rotated(NOW + number, DAY_S)
    with pytest.raises(TooManyKeys):
        many.rotated(NOW + 255, DAY_S)
    assert many.rotated(NOW + 2 * DAY_S, DAY_S).keys[-1].number == 1
