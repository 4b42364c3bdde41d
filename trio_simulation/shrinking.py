"""The shortest list that still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(items: Sequence[T], fails: Callable[[Sequence[T]], bool], *, max_tries: int = 500) -> list[T]:
    """Return a part of a failing list that fails, and of which no single item can be left out.

    This is delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): parts
    of half the list are left out, then of a quarter, until single items are. The answer is not minimal if
    ``max_tries`` is reached.
    """
    kept = list(items)
    tries = 0
    size = max(1, len(kept) // 2)
    while kept and tries < max_tries:
        shorter = None
        for start in range(0, len(kept), size):
            tries += 1
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                shorter = rest
                break
        if shorter is not None:
            kept = shorter
            size = max(1, min(size, len(kept) // 2))
        elif size > 1:
            size = size // 2
        else:
            break
    return kept
