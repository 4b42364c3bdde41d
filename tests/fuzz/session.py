"""What a target is, and what one run of it works with."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FINDINGS = Path("build/fuzz")
LONG_S = 15.0


class Finding(AssertionError):
    """The code under test did what it must not. The text says what, and where the input is kept."""


@dataclass
class Session:
    """One run of one target: its time, its chance, and the figures that it wants to have printed."""

    name: str
    seconds: float
    seed: int
    inputs: int = 0
    figures: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.name}:{self.seed}")
        self.ends_at = time.monotonic() + self.seconds

    @property
    def time_is_up(self) -> bool:
        """Whether the run should end."""
        return time.monotonic() >= self.ends_at

    @property
    def is_long(self) -> bool:
        """Whether there is time for what takes long, and to judge latencies: in `make fuzz`, not in the tests."""
        return self.seconds >= LONG_S

    def keep(self, data: bytes) -> Path:
        """Write a failing input where it is found again; returns its file."""
        FINDINGS.mkdir(parents=True, exist_ok=True)
        path = FINDINGS / f"{self.name}-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        return path


@dataclass(frozen=True, slots=True)
class Target:
    """Something to fuzz. ``run`` works until `Session.time_is_up`, and raises `Finding` for what must not be."""

    name: str
    run: Callable[[Session], None]
    weight: float = 1.0
    """Its share of the time, compared with the others."""
