"""What a process holds: to see that nothing grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.service.harness import Service


@dataclass(frozen=True)
class Usage:
    """Counts of one process at one moment."""

    tasks: int
    threads: int
    descriptors: int
    children: int

    def within(self, bound: Usage) -> bool:
        """Whether nothing is more than in ``bound``."""
        return (
            self.tasks <= bound.tasks
            and self.threads <= bound.threads
            and self.descriptors <= bound.descriptors
            and self.children <= bound.children
        )


def tree_of(service: Service) -> dict[str, Any]:
    """The live tree."""
    tree: dict[str, Any] = httpx.get(f"{service.admin_url}/tree", trust_env=False, verify=False, timeout=5).json()
    return tree


def usage_of(service: Service) -> Usage:
    """Counts of the service's process; its children's children included."""
    process = Path(f"/proc/{service.process.pid}")
    return Usage(
        tasks=tree_of(service)["tasks"],
        threads=len(list((process / "task").iterdir())),
        descriptors=len(list((process / "fd").iterdir())),
        children=_descendants(process),
    )


def _descendants(process: Path) -> int:
    children = [
        Path("/proc") / pid for task in (process / "task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return len(children) + sum(_descendants(child) for child in children)


def processes_with(mark: str) -> list[str]:
    """The command lines of all processes that have ``mark`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:  # it ended meanwhile, or is another's
            continue
    return found
