"""Tokens in files: what the service accepts of them is what the commands show."""

from __future__ import annotations

from pathlib import Path

import pytest

from avion_media.cli.client import caller_metadata, operator_headers
from avion_media.cli.problems import UsageError
from avion_media.common.credentials import Person, Role, read_tokens
from avion_media.servers.settings import AdminConfig, ClientConfig

TOKEN, OTHER = "the-token-of-somebody-0123456789", "the-token-of-another-01234567890"


def test_a_file_holds_one_token_a_line_and_the_first_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n{OTHER}\n")
    assert list(read_tokens(str(path))) == [TOKEN, OTHER]
    assert caller_metadata(ClientConfig(token_file=str(path))) == (("authorization", f"Bearer {TOKEN}"),)
    assert operator_headers(AdminConfig(token_file=str(path))) == {"Authorization": f"Bearer {TOKEN}"}


def test_a_token_can_have_a_role_and_a_name(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN} moderator Inès de la Cruz\n\n{OTHER}  viewer\n", encoding="utf-8")
    assert read_tokens(str(path)) == {TOKEN: Person("Inès de la Cruz", Role.MODERATOR), OTHER: Person("", Role.VIEWER)}


def test_a_right_can_follow_the_role(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN} moderator+evidence ines\n{OTHER} operator\n")
    assert [each.may_discard for each in read_tokens(str(path)).values()] == [True, False]


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n", "too-short", TOKEN[:31], f"{TOKEN}\nshort", f"{TOKEN}\x00", "ünprintable-token-of-some"),
        *(f"{TOKEN} operator+", f"{TOKEN} operator+all", f"{TOKEN} +evidence x" + "x" * 41),
        *(f"{TOKEN} admin", f"{TOKEN} Moderator", f"{TOKEN} viewer {'x' * 41}", f"{TOKEN} viewer x\x1b[1m"),
    ],
)
def test_a_file_with_anything_else_is_refused_by_both(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="tokens"):
        read_tokens(str(path))
    with pytest.raises(UsageError, match="ADMIN__TOKEN_FILE") as problem:
        operator_headers(AdminConfig(token_file=str(path)))
    assert TOKEN not in str(problem.value)


def test_the_token_of_a_caller_may_be_shorter_than_that_of_an_operator(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN[:16])
    assert caller_metadata(ClientConfig(token_file=str(path))) == (("authorization", f"Bearer {TOKEN[:16]}"),)
    path.write_text(TOKEN[:15])
    with pytest.raises(UsageError, match="at least 16"):
        caller_metadata(ClientConfig(token_file=str(path)))


def test_without_a_token_nothing_is_shown() -> None:
    assert (caller_metadata(ClientConfig()), operator_headers(AdminConfig())) == ((), {})
