"""What is full first as the service grows: ``python -m tests.scale.model``.

The measured costs of ``flows.json`` are put together for so many replicas, and so many uploads, copies, deletions and
requests a second. ``--write`` draws the picture of ``docs/how-to/size.md`` and replaces its table, which a test
compares with these figures.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.scale.flows import Flow, Flows, read

_DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = _DOCS / "how-to" / "size.md"
PICTURE: Final = _DOCS / "images" / "size.svg"
BEGIN, END = "<!-- tests.scale.model: begin -->\n", "<!-- tests.scale.model: end -->\n"

WRITES: Final = ("PutObject", "CopyObject", "DeleteObject", "DeleteObjects", "UploadPart", "CreateMultipartUpload")
_LISTED: Final = 1000  # objects of one request
_OBJECTS: Final = 6  # of one media item: original, three thumbnails, owner, hash
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the service is used for. Rates are per second, as an average over the busiest minutes."""

    replicas: int
    uploads: float
    copies: float
    deletions: float
    visits: float
    media: float

    def rates(self) -> dict[str, float]:
        """Return the rate of each flow."""
        return {"upload": self.uploads, "copy": self.copies, "deletion": self.deletions, "visit": self.visits}


@dataclass(frozen=True, slots=True)
class Limits:
    """What there is: memory of Redis in bytes, requests a second of the store, and those that a sweep may make."""

    redis_bytes: float = 64e9
    writes: float = 3500.0
    reads: float = 5500.0
    sweep_rate: float = 10.0
    sweep_s: float = 7 * _DAY_S


@dataclass(frozen=True, slots=True)
class Use:
    """How much of one thing is used, as a share of what there is, and the flow that uses most of it."""

    what: str
    amount: str
    share: float
    most: str


def uses(load: Load, costs: Flows, limits: Limits) -> list[Use]:
    """Return what is used of each thing, the one that is full first at the beginning."""
    rates = load.rates()

    def by_flow(cost: Callable[[Flow], float]) -> dict[str, float]:
        return {name: rate * cost(costs.flows[name]) for name, rate in rates.items()}

    cpu = by_flow(lambda flow: flow.redis_us / 1e6) | {"idle replicas": load.replicas * costs.idle_replica}
    memory = by_flow(lambda flow: flow.redis_byte_s)
    writes = by_flow(lambda flow: sum(count for name, count in flow.store.items() if name in WRITES))
    reads = by_flow(lambda flow: sum(count for name, count in flow.store.items() if name not in WRITES))
    queue = load.uploads * costs.flows["task"].redis_us / 1e6
    sweep_s = load.media * _OBJECTS / _LISTED / limits.sweep_rate
    found = [
        _use("CPU of Redis", cpu, 1.0, lambda total: _percent(total)),
        Use("turns of uploads, on one core", _percent(queue), queue, "upload"),
        _use("memory of Redis", memory, limits.redis_bytes, lambda total: f"{total / 1e9:.1f} GB"),
        _use("writes of the store", writes, limits.writes, lambda total: f"{total:,.0f} a second"),
        _use("reads of the store", reads, limits.reads, lambda total: f"{total:,.0f} a second"),
        Use("one whole sweep", f"{sweep_s / 3600:.1f} hours", sweep_s / limits.sweep_s, "media in the store"),
    ]
    return sorted(found, key=lambda use: -use.share)


def _percent(share: float) -> str:
    return f"{share * 100:.1f} % of a core"


def _use(what: str, by_flow: dict[str, float], there_is: float, shown: Callable[[float], str]) -> Use:
    total = sum(by_flow.values())
    return Use(what, shown(total), total / there_is, max(by_flow, key=by_flow.__getitem__))


def uploads_of_one_queue(costs: Flows) -> float:
    """Return how many uploads a second fill 70 % of a core with the turns of their queue alone."""
    return 0.7e6 / costs.flows["task"].redis_us


LOADS: Final = {
    "one server": Load(2, 1, 5, 0.1, 10, 1e6),
    "a large one": Load(12, 20, 100, 2, 200, 1e8),
    "the largest": Load(300, 1000, 1000, 100, 5000, 1e9),
}


def table(costs: Flows, limits: Limits) -> str:
    """Return the table of the page."""
    lines = ["| | " + " | ".join(LOADS) + " |", "|---" * (len(LOADS) + 1) + "|"]
    rows: dict[str, Callable[[Load], str]] = {
        "replicas": lambda load: f"{load.replicas}",
        "uploads, copies, deletions a second": lambda load: f"{load.uploads:g}, {load.copies:g}, {load.deletions:g}",
        "requests a second at the origin": lambda load: f"{load.visits:g}",
        "media in the store": lambda load: f"{load.media:,.0f}",
    }
    for name, value in rows.items():
        lines.append(f"| {name} | " + " | ".join(value(each) for each in LOADS.values()) + " |")
    found = [uses(each, costs, limits) for each in LOADS.values()]
    for what in [use.what for use in sorted(found[-1], key=lambda use: -use.share)]:
        cells = [next(use for use in each if use.what == what) for each in found]
        lines.append(f"| {what} | " + " | ".join(f"{use.amount} (most: {use.most})" for use in cells) + " |")
    lines.append("| **full first** | " + " | ".join(f"{each[0].what}, {each[0].share:.2g}" for each in found) + " |")
    return "\n".join(lines) + "\n"


def picture(costs: Flows, limits: Limits) -> str:
    """Return an SVG: the share that is used of each thing, over the uploads a second, all else in proportion."""
    left, top, width, height = 60, 30, 620, 300
    least, most = 0.1, 10_000.0
    largest = LOADS["the largest"]
    steps = [least * (most / least) ** (number / 60) for number in range(61)]

    def scaled(uploads: float) -> Load:
        factor = uploads / largest.uploads
        numbers = {name: getattr(largest, name) * factor for name in ("copies", "deletions", "visits", "media")}
        return replace(largest, uploads=uploads, replicas=max(2, math.ceil(largest.replicas * factor)), **numbers)

    def x(uploads: float) -> float:
        return left + width * math.log(uploads / least) / math.log(most / least)

    def y(share: float) -> float:
        return top + height * (1 - (math.log10(min(max(share, 1e-4), 10)) + 4) / 5)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 120}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="18">Share that is used, over uploads a second; 1 is full</text>',
    ]
    for power in range(-4, 2):
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}"'
                   f' stroke="{"#d33" if power == 0 else "#ddd"}"/>')  # fmt: skip
        out.append(f'<text x="{left - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    for uploads in (0.1, 1, 10, 100, 1000, 10_000):
        out.append(f'<text x="{x(uploads):.1f}" y="{top + height + 18}" text-anchor="middle">{uploads:g}</text>')
    colours = ("#3b7dd8", "#7a9fd0", "#e07b39", "#3a9a5c", "#b14f9e", "#8a6d5a")
    names = [use.what for use in uses(largest, costs, limits)]
    by_step = [{use.what: use.share for use in uses(scaled(each), costs, limits)} for each in steps]
    for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
        points = " ".join(f"{x(at):.1f},{y(shares[name]):.1f}" for at, shares in zip(steps, by_step, strict=True))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        row_x, row_y = left + number % 2 * 310, top + height + 44 + number // 2 * 22
        out.append(f'<rect x="{row_x}" y="{row_y - 9}" width="18" height="4" fill="{colour}"/>')
        out.append(f'<text x="{row_x + 26}" y="{row_y - 3}">{name}</text>')
    return "\n".join((*out, "</svg>")) + "\n"


def with_table(page: str, costs: Flows, limits: Limits) -> str:
    """Return the page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(costs, limits) + END + after


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is used by one load, the fullest first."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.model", description=__doc__.split("\n")[0])
    largest = LOADS["the largest"]
    for name in ("replicas", "uploads", "copies", "deletions", "visits", "media"):
        parser.add_argument(f"--{name}", type=int if name == "replicas" else float, default=getattr(largest, name))
    standard = Limits()
    for name in ("redis_bytes", "writes", "reads", "sweep_rate"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(standard, name))
    parser.add_argument("--write", action="store_true", help=f"replace the table of {PAGE.name} and {PICTURE.name}")
    given = parser.parse_args(arguments)
    costs = read()
    limits = Limits(given.redis_bytes, given.writes, given.reads, given.sweep_rate)
    load = Load(given.replicas, given.uploads, given.copies, given.deletions, given.visits, given.media)
    print(f"{'':<36}{'used':>18}{'share':>10}   most of it by")
    for each in uses(load, costs, limits):
        print(f"{each.what:<36}{each.amount:>18}{each.share:>10.3f}   {each.most}")
    print(f"\na second shard of the queue of uploads from {uploads_of_one_queue(costs):,.0f} uploads a second")
    if given.write:
        PAGE.write_text(with_table(PAGE.read_text(), costs, standard))
        PICTURE.write_text(picture(costs, standard))
    return 0


if __name__ == "__main__":
    sys.exit(main())
