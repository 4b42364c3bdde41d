"""How a process ended, in words."""

from __future__ import annotations

import signal

import pytest

from trio_sandbox.kernel import describe_exit


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        (-(signal.SIGRTMIN + 1), f"was killed by {signal.SIGRTMIN + 1}"),  # Python has no name for it
    ],
)
def test_a_signal_has_its_name_and_a_status_its_number(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text
