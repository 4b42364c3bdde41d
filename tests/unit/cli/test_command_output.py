"""What the commands print of others' text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from avion_media.cli import moderation
from avion_media.cli.media import print_status
from avion_media.cli.output import load_config, print_json, print_table
from avion_media.cli.problems import print_problem, sanitize
from avion_media.operations.operation import Outcome


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo.jpg", "photo.jpg"),
        ("фото \U0001f468\u200d\U0001f467\u202f.jpg", "фото \U0001f468\u200d\U0001f467\u202f.jpg"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\u2028\x7f", r"a\nb\u2028\x7f"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),  # a file name that is no UTF-8
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@pytest.mark.parametrize("text", ["[/red]", "[draft] a.jpg", "[bold]x", "http://[fe80::1]/"])
def test_brackets_are_no_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["file"], [(text,)])
    print_status({"reason": text}, text)
    assert capsys.readouterr().out.count(text) == 3


def test_a_problem_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_problem(["it said:\n\x1b]0;title\x07"])
    assert capsys.readouterr().err == "avion-media: it said:\n\\x1b]0;title\\x07\n"


def test_a_name_that_is_no_unicode_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"file": "caf\udce9 é.jpg"})
    printed = capsys.readouterr().out
    assert "é" in printed
    assert json.loads(printed.encode()) == {"file": "caf\udce9 é.jpg"}


@pytest.mark.parametrize(("on_terminal", "log_format"), [(True, "console"), (False, "json")])
def test_logs_are_for_whoever_reads_standard_error(
    monkeypatch: pytest.MonkeyPatch, on_terminal: bool, log_format: str
) -> None:
    monkeypatch.delenv("AVION_MEDIA_LOG__FORMAT", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal)
    assert load_config().log.format == log_format


@pytest.mark.parametrize(
    ("copies", "text"), [(0, "blocked"), (1, "blocked, with 1 copy"), (2, "blocked, with 2 copies")]
)
def test_a_block_says_how_many_copies_it_includes(monkeypatch: pytest.MonkeyPatch, copies: int, text: str) -> None:
    media_id = "a" * 64
    outcome = Outcome({media_id: {"copies": copies}})
    monkeypatch.setattr(moderation, "act", lambda *_action, **_details: outcome)
    assert CliRunner().invoke(moderation.block_command, [media_id]).output == f"{media_id}: {text}\n"


def test_the_list_of_commands_loads_none_of_them() -> None:
    program = (
        "import sys\n"
        "from avion_media.cli import command_line\n"
        "sys.argv = ['avion-media', '--help']\n"
        "try:\n    command_line()\n"
        "finally:\n    print(*sorted({'trio', 'boto3', 'coredis', 'pydantic', 'rich', 'httpx'} & set(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "  serve      Run the service.\n" in shown
    assert shown.splitlines()[-1] == ""
