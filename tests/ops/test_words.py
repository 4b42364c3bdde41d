"""The lint of prose: phrases that plain English does not need, in documentation, code and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PHRASES = {
    "told": r"\b(is|are|was|were) told\b",
    "said": r"\b(is|are|was|were) said\b",
    "the begin": r"\bthe begin\b",
    "needs not": r"\bneeds? (it )?not\b|\bneed not\b",
    "for ever": r"\bfor ever\b",
    "whoever": r"\b[Ww]hoever\b",
    "may not": r"\bmay not\b",
    "left in peace": r"\bleft in peace\b",
    "under way": r"\bunder way\b",
    "waits since": r"\bwaits? since\b",
    "at no cost": r"\bat no (attempt|cost)\b",
    "one a line": r"\bone a line\b",
}
READ = ("avion_media", "supervisors", "docs", "examples", "ops", "proto", "README.md", "CONTRIBUTING.md", "SECURITY.md")
SUFFIXES = {".py", ".md", ".lua", ".html", ".yaml", ".proto", ".toml"}
LEFT_OUT = (ROOT / "supervisors/tests", ROOT / "avion_media/wire")


def texts() -> Iterator[Path]:
    """The files that people read."""
    for each in (ROOT / name for name in READ):
        yield from [each] if each.is_file() else (path for path in each.rglob("*") if path.suffix in SUFFIXES)


def found() -> dict[str, dict[str, int]]:
    """How often each file has each phrase."""
    counts: dict[str, dict[str, int]] = {}
    for path in texts():
        if "node_modules" in path.parts or any(path.is_relative_to(each) for each in LEFT_OUT):
            continue
        text = re.sub(r"\s+(#|--|//)?\s*", " ", path.read_text())  # a phrase can go over two lines
        here = {phrase: len(re.findall(pattern, text)) for phrase, pattern in PHRASES.items()}
        counts[str(path.relative_to(ROOT))] = {phrase: count for phrase, count in here.items() if count}
    assert len(counts) > 300  # else the lint reads nothing
    return {name: here for name, here in counts.items() if here}


def test_prose_has_none_of_these_phrases() -> None:
    assert found() == {}


def test_the_lint_sees_each_phrase_also_over_two_lines() -> None:
    samples = {
        "told": "a client is told",
        "said": "as was said",
        "the begin": "at the begin of it",
        "needs not": "it need not",
        "for ever": "not for ever",
        "whoever": "Whoever asks",
        "may not": "it may not",
        "left in peace": "left in peace",
        "under way": "calls under way",
        "waits since": "it waits since",
        "at no cost": "at no attempt",
        "one a line": "one a line",
    }
    assert all(re.search(PHRASES[phrase], sample) for phrase, sample in samples.items())
    assert samples.keys() == PHRASES.keys()
