"""Charts over a day or a week, from the operator's Prometheus, because this process keeps one hour only."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx
import trio

from avion_media.common.concurrency import Shared
from avion_media.common.errors import MediaError
from avion_media.common.responses import read_body
from avion_media.common.tasks import PROCESSING_QUEUE, QUEUES

RANGES: Final = {"1d": ("Last day", 86_400.0), "7d": ("Last week", 7 * 86_400.0)}
_POINTS: Final = 60
_FRESH_S: Final = 30.0  # for all viewers of one process
_TIMEOUT_S: Final = 2.5  # below the time that a region of a page may take
_MAX_BODY_BYTES: Final = 1 << 20
_QUEUE: Final = "messaging_destination_name"
_ALL: Final = "|".join(QUEUES)


class PrometheusUnavailable(MediaError):
    """The operator's Prometheus did not respond as expected."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its title, its unit, and its values over the range, oldest first: one for each ``step_s`` from
    ``start`` (Unix seconds) on."""

    title: str
    unit: str
    values: Sequence[float | None]
    start: float
    step_s: float


def queries(step_s: float) -> dict[tuple[str, str], str]:
    """Return the queries by title and unit. ``step_s`` is the time between two points."""
    ended, step = "avion_task_completion_duration_seconds", f"{round(step_s)}s"
    ready = f'{ended}_bucket{{{_QUEUE}="{PROCESSING_QUEUE}", outcome="done"}}'
    return {
        ("Throughput", "tasks/min"): f"sum(rate({ended}_count[{step}])) * 60",
        ("Time to ready, p95", "s"): f"histogram_quantile(0.95, sum by (le) (rate({ready}[{step}])))",
        ("Failures", ""): f'sum(increase({ended}_count{{outcome=~"rejected|dead_letter"}}[{step}]))',
        ("Oldest task", "s"): f"max({_by_queue('avion_queue_oldest_age_seconds')})",
    }


def _by_queue(metric: str) -> str:
    """Return a query for one value of each queue, because all replicas report the same."""
    return f'max by ({_QUEUE}) ({metric}{{{_QUEUE}=~"{_ALL}"}})'


class PrometheusCharts:
    """The figures of the overview over longer ranges. Without a URL none are offered."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        ranges = {name: partial(self._ask, range_s) for name, (_, range_s) in RANGES.items()}
        self._figures = {name: Shared(ask, _FRESH_S) for name, ask in ranges.items()}

    @property
    def offered(self) -> Mapping[str, str]:
        """The names of the ranges with their titles."""
        return {name: title for name, (title, _) in RANGES.items()} if self._url else {}

    async def read(self, name: str) -> list[Figure]:
        """Return the figures of one range that is offered. Raises `PrometheusUnavailable`."""
        return await self._figures[name].get()

    async def _ask(self, range_s: float) -> list[Figure]:
        step_s = range_s / _POINTS
        end = time.time() // step_s * step_s
        times = [end - step_s * back for back in reversed(range(_POINTS))]
        try:
            with trio.fail_after(_TIMEOUT_S):
                async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
                    return [
                        Figure(title, unit, await self._values(http, query, times, step_s), times[0], step_s)
                        for (title, unit), query in queries(step_s).items()
                    ]
        except trio.TooSlowError:
            raise PrometheusUnavailable("Prometheus does not respond in time") from None
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            raise PrometheusUnavailable(f"Prometheus does not respond as expected: {error!r:.200}") from None

    async def _values(
        self, http: httpx.AsyncClient, query: str, times: Sequence[float], step_s: float
    ) -> list[float | None]:
        where = {"query": query, "start": f"{times[0]:.3f}", "end": f"{times[-1]:.3f}", "step": f"{step_s:g}"}
        async with http.stream("GET", f"{self._url}/api/v1/query_range", params=where) as response:
            response.raise_for_status()
            body = await read_body(response, _MAX_BODY_BYTES)
        return _on_grid(json.loads(body), times, step_s)


def _on_grid(document: dict[str, Any], times: Sequence[float], step_s: float) -> list[float | None]:
    """Return the values of the only series of a response at these times; None where Prometheus has none."""
    series = document["data"]["result"]
    values: list[float | None] = [None] * len(times)
    for at, text in series[0]["values"] if series else []:
        index, value = round((float(at) - times[0]) / step_s), float(text)
        if 0 <= index < len(values) and math.isfinite(value):
            values[index] = value
    return values
