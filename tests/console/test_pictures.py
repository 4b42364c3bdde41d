"""The pictures of the console in the documentation are those of the present console."""

from __future__ import annotations

import json

from tests.console.pictures import DIGEST, digest


def test_they_were_taken_of_these_templates_and_styles() -> None:
    taken = json.loads(DIGEST.read_text())["sources"]
    assert taken == digest(), "the look of the console changed: python -m tests.console.pictures, and look at them"
