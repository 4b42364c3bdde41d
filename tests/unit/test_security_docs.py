"""What the pages about security name as proof is there, and what they promise without exception names its proof."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_PROOF = re.compile(r"<!-- test: ([^>]+) -->")
_SENTENCE = re.compile(r"(?:[^.!?|]|[.!?](?![\s|]))+[.!?|]*(?:\s*<!-- test: [^>]+ -->)?")
"""Up to a full stop or the end of a cell, and the comment behind it. A stop inside of a word, as in `a.md`, is none."""


@pytest.mark.parametrize(
    "page", ["file-contents.md", "forged-uploads.md", "remote.md", "sandbox.md", "security-tests.md"]
)
def test_every_test_that_is_named_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    libraries = "(?:mediascrub/|mediathumbs/|trio_http1/|trio_sandbox/|guarded_fetch/)?"
    named = set(re.findall(rf"`({libraries}tests/[A-Za-z0-9_/.]+)`", text))

    assert named
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", ["security.md", "private-media.md", "remote.md", "moderation.md"])
def test_a_sentence_without_exceptions_names_the_test_that_shows_it(page: str) -> None:
    absolute = [sentence for sentence in _sentences(page) if re.search(r"\b(never|every)\b", sentence, re.IGNORECASE)]

    assert not [sentence for sentence in absolute if not _PROOF.search(sentence)]


@pytest.mark.parametrize("page", ["security.md", "private-media.md", "remote.md", "moderation.md"])
def test_the_proof_of_a_sentence_is_a_test(page: str) -> None:
    named = [name for names in _PROOF.findall((ROOT / "docs" / page).read_text()) for name in names.split(", ")]

    assert not [name for name in named if not _is_test(name)]


def _sentences(page: str) -> list[str]:
    """Return the sentences of a page, each with the comment behind it, without blocks of code."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "docs" / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = re.sub(r"(?<!\n)\n(?![\n|*#-])", " ", text).splitlines()  # a paragraph is one line, and so is a row
    return [sentence for line in lines for sentence in _SENTENCE.findall(line)]


def _is_test(name: str) -> bool:
    """Return whether a file defines a test: ``tests/service/test_x.py::test_name``."""
    path, _, function = name.partition("::")
    file = ROOT / path
    return file.exists() and re.search(rf"^ *(async )?def {re.escape(function)}\(", file.read_text(), re.M) is not None
