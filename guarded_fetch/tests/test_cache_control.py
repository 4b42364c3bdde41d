"""Which values of ``Cache-Control`` forbid a copy."""

from __future__ import annotations

import pytest

from guarded_fetch.fetcher import forbids_copies


@pytest.mark.parametrize(
    "value",
    [
        "private",
        "no-store",
        "max-age=60, PRIVATE",
        "public,No-Store",
        "\tprivate\t",
        'private="x-secret"',
        'private = "a, b", max-age=1',
        'extension="quoted \\" text", private',
        'max-age="never closed, private',
        "private=",
        ",,private,,",
    ],
)
def test_private_and_no_store_in_all_their_spellings(value: str) -> None:
    assert forbids_copies(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "public, max-age=31536000, immutable",
        "no-cache, must-revalidate",
        'extension="private"',
        'extension="a, private, b", max-age=1',
        'extension="\\", private"',
        "privately, no-storeroom, x-private",
        "max-age=private",
    ],
)
def test_other_directives_and_quoted_text(value: str) -> None:
    assert not forbids_copies(value)
