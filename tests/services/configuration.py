"""The configurations of caches in `ops`, changed in as few places as a test needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_OPS = Path(__file__).resolve().parents[2] / "ops"


def configured(name: str, changes: Mapping[str, str]) -> str:
    """The text of a file of `ops`, each change made once. ValueError when there is not exactly one place for it."""
    text = (_OPS / name).read_text()
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"{name} has {old!r} {text.count(old)} times")
        text = text.replace(old, new)
    return text
