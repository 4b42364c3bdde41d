"""What the pages about security name as proof is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "page", ["file-contents.md", "forged-uploads.md", "remote.md", "sandbox.md", "security-tests.md"]
)
def test_every_test_that_is_named_exists(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    libraries = "(?:mediascrub/|mediathumbs/|trio_http1/|trio_sandbox/|guarded_fetch/)?"
    named = set(re.findall(rf"`({libraries}tests/[A-Za-z0-9_/.]+)`", text))

    assert named
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
