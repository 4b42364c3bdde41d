"""What a release has promised to other programs stays: names of settings, commands, calls, events and more."""

from __future__ import annotations

from pathlib import Path

from tests.ops.interface import interface

RELEASED = Path(__file__).with_name("released.txt")


def test_what_was_released_is_still_there() -> None:
    gone = sorted(set(RELEASED.read_text().splitlines()) - set(interface()))
    assert not gone, "released, and gone or changed; keep it, or write a new file at a release that may break"


def test_each_kind_of_name_is_looked_at() -> None:
    kinds = {each.partition(" ")[0] for each in RELEASED.read_text().splitlines()}
    assert kinds == {"setting", "metric", "command", "record", "event", "proto", "route", "reason"}
