"""Charts as SVG, drawn on the server, with a scale and a time axis: they need no script, and no style of their own.

The values are in the markup as well, so that the script of the page can show the one under the pointer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

from avion_media.backends.queue.history import History
from avion_media.servers.console.wording import count, exactly, took

Values = Sequence[float | None]
_WIDTH: Final = 118
_HEIGHT: Final = 40
_TOP: Final = 3  # room for the line's own width
_STEPS: Final = (1, 2, 4, 6, 8, 10)  # times a power of ten; half of each is short, too
_STEPS_S: Final = (1, 2, 4, 10, 20, 60, 120, 240, 600, 1200, 3600, 7200, 21_600, 86_400, 172_800)
_MINUTE_S: Final = 60.0
_DAY_S: Final = 86_400
_CHART: Final = Markup(
    '<svg class="chart {}" viewBox="0 0 118 40" preserveAspectRatio="none" role="img" aria-label="{}" {}>{}</svg>'
)


@dataclass(frozen=True, slots=True)
class Span:
    """The time of a chart: from ``start`` (Unix seconds) on, a value for each ``step_s``."""

    start: float
    step_s: float

    @classmethod
    def of(cls, history: History) -> Span:
        """Return the span of the series of a history. It moves once a minute, so that an idle page does not change."""
        last = history.latest.at if history.latest is not None else time.time()
        return cls((last // _MINUTE_S + 1 - history.minutes) * _MINUTE_S, _MINUTE_S)

    def axis(self, points: int) -> Markup:
        """Return the times of the axis: the first, that in the middle, and now."""
        is_long = points * self.step_s > _DAY_S
        times = [self.start + share * points * self.step_s for share in (0, 0.5)]
        shown = [f"{datetime.fromtimestamp(at, UTC):{'%-d %b' if is_long else '%H:%M'}}" for at in times]
        elements = [
            Markup('<span title="{}">{}</span>').format(exactly(at), text)
            for at, text in zip(times, shown, strict=True)
        ]
        return Markup("").join((*elements, Markup("<span>now</span>")))


def figure(
    values: Values,
    label: str,
    span: Span,
    *,
    unit: str = "",
    second: Values = (),
    names: Sequence[str] = (),
    at_least: float = 4.0,
    limit: float | None = None,
    marks: Sequence[float] = (),
    bars: bool = False,
    per: float = 1.0,
    css: str = "",
    is_bare: bool = False,
) -> Markup:
    """Draw a chart with a scale and a time axis; without both if it ``is_bare``, for the side of a number.

    ``second`` is a grey line behind the first, or grey ``bars`` above the others; ``names`` are those of both.
    ``limit`` is a dashed line if it is on the scale, ``marks`` are such lines at times (Unix seconds). ``at_least`` is
    the lowest top of the scale, so that small values look small. ``per``: one ``unit``, in that of the values.
    """
    values = [None if each is None else each / per for each in values]
    behind = (
        [(each or 0.0) + (more or 0.0) for each, more in zip(values, second, strict=True)]
        if bars and second
        else second
    )
    top = max(at_least, _highest(values, behind))
    top = top if is_bare else _round_up(top, unit)
    parts = [] if is_bare else [Markup('<path class="grid" d="M0 3h118M0 21.5h118"/>')]
    if any(_known(behind)):
        drawn = _bars(behind, top) if bars else _path(behind, top)
        parts.append(Markup('<path class="second{}" d="{}"/>').format(" bars" if bars else "", drawn))
    if limit is not None and limit <= top:
        parts.append(Markup('<path class="limit" d="M0 {}h118"/>').format(_y(limit, top)))
    places = ((at - span.start) / span.step_s / max(1, len(values)) * _WIDTH for at in marks)
    parts += [Markup('<path class="mark" d="M{:.1f} 0v40"/>').format(each) for each in places if 0 <= each <= _WIDTH]
    parts += [Markup('<path class="bars" d="{}"/>').format(_bars(values, top))] if bars else _line(values, top)
    data = Markup('data-start="{}" data-step="{}" data-unit="{}" data-names="{}" data-values="{}"').format(
        *(round(span.start), round(span.step_s), unit, "|".join(names)),
        "|".join(map(_listed, (values, second) if second else (values,))),
    )
    chart = _CHART.format(css, label, data, Markup("").join(parts))
    if is_bare:
        return chart
    scale = Markup('<span class="upper">{}</span><span class="half">{}</span>').format(
        _short(top, unit), _short(top / 2, unit)
    )
    legend = Markup("").join(
        Markup('<span><i class="{}"></i>{}</span>').format(colour, name)
        for colour, name in zip((css or "info", "mute"), names, strict=False)
    )
    key = Markup('<p class="legend">{}</p>').format(legend) if names else ""
    return Markup('<figure><div class="plot">{}{}</div><p class="axis">{}</p>{}</figure>').format(
        chart, scale, span.axis(len(values)), key
    )


def meter(used: float, limit: float, most: float = 0.0, *, css: str = "") -> Markup:
    """Draw a bar that is full at ``limit``, and paler up to ``most``. The text beside it says the same."""
    return _bar(css, ("free", 0.0, most, limit), ("", 0.0, used, limit))


def stretch(start: float, length: float, of: float) -> Markup:
    """Draw a part of a time as a bar. The text beside it has its length."""
    return _bar("", ("", min(start, 0.995 * of), max(length, 0.005 * of), of))


def _bar(css: str, *parts: tuple[str, float, float, float]) -> Markup:
    """Draw the parts of a bar: each with its class, start, length, and the whole."""
    drawn = Markup("").join(
        Markup('<rect class="{}" x="{:.1f}%" width="{:.1f}%" height="100%"/>').format(
            part, 100 * start / whole, 100 * min(length, whole - start) / whole
        )
        for part, start, length, whole in parts
        if whole > 0
    )
    return Markup('<svg class="bar {}" aria-hidden="true">{}</svg>').format(css, drawn)


def _line(values: Values, top: float) -> Iterator[Markup]:
    for run in _runs(values, top):
        area = f"M{run[0][0]} {_HEIGHT}L" + " ".join(f"{x} {y}" for x, y in run) + f" {run[-1][0]} {_HEIGHT}z"
        yield Markup('<path class="area" d="{}"/>').format(area)
    yield Markup('<path d="{}"/>').format(_path(values, top))
    last = values[-1] if values else None
    if last is not None:
        yield Markup('<path class="tip" d="M118 {}h0"/>').format(_y(last, top))


def _bars(values: Values, top: float) -> str:
    """Return a bar for each value that is not 0."""
    step = _WIDTH / max(1, len(values))
    bars = "".join(
        f"M{step * (index + 0.5):.1f} {_HEIGHT}V{min(_HEIGHT - 2.0, _y(value, top)):g}"
        for index, value in enumerate(values)
        if value
    )
    return bars or "M0 0"


def _round_up(top: float, unit: str) -> float:
    """Return the next number that is short on a scale."""
    if unit == "s":
        return next((each for each in _STEPS_S if each >= top), _STEPS_S[-1] * math.ceil(top / _STEPS_S[-1]))
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in _STEPS if step * power >= top)


def _short(value: float, unit: str) -> str:
    if unit == "s":
        return took(value)
    number = count(value) if value >= 10 else f"{value:g}"
    return f"{number} {unit}" if unit in ("ms", "MiB") else number


def _listed(values: Values) -> str:
    return ",".join("" if value is None else f"{round(value, 1):g}" for value in values)


def _known(values: Values) -> Iterator[float]:
    return (value for value in values if value is not None)


def _highest(*series: Values) -> float:
    return max((value for values in series for value in _known(values)), default=0.0) or 1.0


def _y(value: float, top: float) -> float:
    return round(_HEIGHT - (_HEIGHT - _TOP) * value / top, 1)


def _runs(values: Values, top: float) -> list[list[tuple[float, float]]]:
    """Return the points of the line, split where a value is missing."""
    runs: list[list[tuple[float, float]]] = [[]]
    step = _WIDTH / max(1, len(values) - 1)
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((round(index * step, 1), _y(value, top)))
    return [run for run in runs if run]


def _path(values: Values, top: float) -> str:
    """Return a line for each run. A run of one point is a dot."""
    return "".join(
        f"M{run[0][0]} {run[0][1]}" + ("".join(f"L{x} {y}" for x, y in run[1:]) or "h.9") for run in _runs(values, top)
    )
