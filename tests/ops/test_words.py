"""The lint of prose: phrases that plain English does not need, in documentation, code and messages."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
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
READ = ("*.py", "*.md", "*.lua", "*.html", "*.yaml", "*.proto", "*.toml")
LEFT_OUT = ("tests/", "supervisors/tests/", "avion_media/wire/", "CHANGELOG.md")


def found() -> dict[str, dict[str, int]]:
    """How often each file has each phrase."""
    listed = subprocess.run(["git", "ls-files", "-z", *READ], cwd=ROOT, capture_output=True, text=True, check=True)
    counts: dict[str, dict[str, int]] = {}
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(LEFT_OUT):
            continue
        text = re.sub(r"\s+(#|--|//)?\s*", " ", (ROOT / name).read_text())  # a phrase can go over two lines
        here = Counter({phrase: len(re.findall(pattern, text)) for phrase, pattern in PHRASES.items()})
        counts[name] = {phrase: count for phrase, count in here.items() if count}
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
