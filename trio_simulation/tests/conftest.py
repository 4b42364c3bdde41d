"""A run collects garbage at fixed moments, also that of other tests of the same process."""

from __future__ import annotations

import gc
import warnings

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_garbage_of_others() -> None:
    """Collect what earlier tests left: a socket that nobody closed would be an error of a test here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
