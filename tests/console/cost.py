"""What a page of the console costs with many dead letters: ``python -m tests.console.cost``.

Prints for each page its bytes, and with 3,000 and with 100,000 dead letters the server's CPU time and the median time
until the page is there. The latter depends on what else the machine does. The exit status is 1 if a page is too much.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import httpx
import redis

from tests.console.conftest import Development, development

_DEAD: Final = "{media_processing_queue}:dlq"
_SIZES: Final = (3_000, 100_000)
_RUNS: Final = 20
_MAX_BYTES: Final = 44 << 10
_MAX_S: Final = 0.090
_MEDIA_ID: Final = "01M88C0SJ305C5J3D3B0000000"
_PAGES: Final = (
    "",
    "/queues",
    "/dead-letters",
    "/dead-letters?each=1",
    "/dead-letters?q=nothing+matches",
    "/dead-letters?reason=poison",
    "/media",
    f"/media/{_MEDIA_ID}",
    "/moderation",
    "/moderation?part=lists",
    "/moderation?part=blocked",
    "/system",
    "/audit",
    "/confirm?action=replay_all&reason=poison",
    "/confirm?action=drop&all=1&reason=poison",
    "/confirm?action=drop&all=1&q=nothing+matches",
)


@dataclass(frozen=True)
class Cost:
    """Of one page: its bytes, the seconds of CPU in the server, and the median of the seconds until it is there."""

    size_bytes: int
    cpu_s: float
    passed_s: float


def main() -> int:
    """Measure, and print a table."""
    costs: dict[str, list[Cost]] = {page: [] for page in _PAGES}
    with development() as dev, redis.Redis.from_url(dev.redis_url) as client:
        for size in _SIZES:
            _fill(client, size)
            time.sleep(7)  # until the figures are read
            for page in _PAGES:
                costs[page].append(_measure(dev, page))
    head = "".join(f"{f'CPU ms at {size:,}':>20}{'ms':>6}" for size in _SIZES)
    sys.stdout.write(f"{'page':<56}{'KiB':>6}{head}\n")
    for page, found in costs.items():
        kib = max(each.size_bytes for each in found) / 1024
        row = "".join(f"{1000 * each.cpu_s:>20.0f}{1000 * each.passed_s:>6.0f}" for each in found)
        sys.stdout.write(f"/console{page:<48}{kib:>6.1f}{row}\n")
    everything = [each for found in costs.values() for each in found]
    return int(any(each.size_bytes > _MAX_BYTES or each.passed_s > _MAX_S for each in everything))


def _fill(client: redis.Redis, size: int) -> None:
    missing = size - client.xlen(_DEAD)
    pipeline = client.pipeline(transaction=False)
    now = time.time()
    for number in range(missing):
        error = ("internal: KeyError: 'colr' in a rather long sentence about a box", "poison: 3 workers crashed")[
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


def _measure(dev: Development, page: str) -> Cost:
    with httpx.Client(base_url=dev.admin_url, trust_env=False, verify=False, timeout=30) as client:
        size = len(client.get(f"/console{page}").content)
        before, passed = _cpu_s(dev.pid), []
        for _ in range(_RUNS):
            started = time.monotonic()
            client.get(f"/console{page}")
            passed.append(time.monotonic() - started)
        return Cost(size, (_cpu_s(dev.pid) - before) / _RUNS, median(passed))


def _cpu_s(pid: int) -> float:
    """CPU time of a process so far, its children aside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
