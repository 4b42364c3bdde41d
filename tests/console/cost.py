"""What a page of the console costs with many dead letters: ``python -m tests.console.cost``.

Prints for each page its bytes, and the server's CPU time with 3,000 and with 100,000 dead letters. The time that passes
would depend on what else the machine does.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import httpx
import redis

from tests.console.conftest import Development, development

_DEAD: Final = "{media_processing_queue}:dlq"
_SIZES: Final = (3_000, 100_000)
_RUNS: Final = 20
_PAGES: Final = (
    "",
    "/queues",
    "/dead-letters",
    "/dead-letters?q=nothing+matches",
    "/dead-letters?reason=poison",
    "/media",
    "/system",
    "/audit",
)


def main() -> int:
    """Measure, and print a table."""
    costs: dict[str, list[tuple[float, int]]] = {page: [] for page in _PAGES}
    with development() as dev, redis.Redis.from_url(dev.redis_url) as client:
        for size in _SIZES:
            _fill(client, size)
            time.sleep(7)  # until the figures are read
            for page in _PAGES:
                costs[page].append(_measure(dev, page))
    sys.stdout.write(f"{'page':<34}{'KiB':>8}" + "".join(f"{f'ms at {size:,}':>16}" for size in _SIZES) + "\n")
    for page, found in costs.items():
        kib = max(size for _, size in found) / 1024
        row = f"/console{page:<26}{kib:>8.1f}" + "".join(f"{1000 * seconds:>16.0f}" for seconds, _ in found)
        sys.stdout.write(row + "\n")
    return 0


def _fill(client: redis.Redis, size: int) -> None:
    missing = size - client.xlen(_DEAD)
    pipeline = client.pipeline(transaction=False)
    now = time.time()
    for number in range(missing):
        error = ("internal: KeyError: 'colr' in a rather long sentence about a box", "poison: 3 processes died")[
            number % 9 == 0
        ]
        dead_letter = {
            "task_id": f"0b1e1f0c-0f5e-4a39-9d0a-{number:012d}",
            "media_id": f"01M88C0SJ305C5J3D3B{number:07d}",
        }
        dead_letter |= {
            "type": "thumbnail",
            "error": error,
            "attempts": "5",
            "failed_at": f"{now - number % 86400:.3f}",
        }
        dead_letter["traceparent"] = f"00-01a210e489eb200e76313492{number:08d}-c428b009f87614b9-01"
        pipeline.xadd(_DEAD, dead_letter)  # type: ignore[arg-type]
        if number % 5000 == 0:
            pipeline.execute()
    pipeline.execute()


def _measure(dev: Development, page: str) -> tuple[float, int]:
    """The seconds of CPU for one request, and its bytes."""
    with httpx.Client(base_url=dev.admin_url, trust_env=False, timeout=30) as client:
        size = len(client.get(f"/console{page}").content)
        before = _cpu_s(dev.pid)
        for _ in range(_RUNS):
            client.get(f"/console{page}")
        return (_cpu_s(dev.pid) - before) / _RUNS, size


def _cpu_s(pid: int) -> float:
    """CPU time of a process so far, its children aside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
