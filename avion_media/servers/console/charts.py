"""Charts of one hour as SVG, drawn on the server: they need no script, and no style of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from markupsafe import Markup

Values = Sequence[float | None]
_WIDTH: Final = 118
_HEIGHT: Final = 40
_TOP: Final = 3  # room for the line's own width
_CHART: Final = Markup(
    '<svg class="chart {}" viewBox="0 0 118 40" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
)


def line_chart(
    values: Values,
    label: str,
    *,
    second: Values = (),
    at_least: float = 4.0,
    limit: float | None = None,
    css: str = "",
) -> Markup:
    """Draw a line over an area, ``second`` in grey behind it, and ``limit`` as a dashed line if it is on the scale.

    ``at_least`` is the lowest top of the scale, so that small values look small.
    """
    top = max(at_least, _highest(values, second))
    parts = [Markup('<path class="second" d="{}"/>').format(_path(second, top))] if any(_known(second)) else []
    if limit is not None and limit <= top:
        parts.append(Markup('<path class="limit" d="M0 {}h118"/>').format(_y(limit, top)))
    for run in _runs(values, top):
        area = f"M{run[0][0]} {_HEIGHT}L" + " ".join(f"{x} {y}" for x, y in run) + f" {run[-1][0]} {_HEIGHT}z"
        parts.append(Markup('<path class="area" d="{}"/>').format(area))
    parts.append(Markup('<path d="{}"/>').format(_path(values, top)))
    last = values[-1] if values else None
    if last is not None:
        parts.append(Markup('<path class="tip" d="M118 {}h0"/>').format(_y(last, top)))
    return _CHART.format(css, label, Markup("").join(parts))


def bar_chart(values: Values, label: str, *, css: str = "") -> Markup:
    """Draw a bar for each value that is not 0."""
    top = _highest(values)
    step = _WIDTH / max(1, len(values))
    bars = "".join(
        f"M{step * (index + 0.5):.1f} {_HEIGHT}V{min(_HEIGHT - 2.0, _y(value, top)):g}"
        for index, value in enumerate(values)
        if value
    )
    return _CHART.format(css, label, Markup('<path class="bars" d="{}"/>').format(bars or "M0 0"))


def meter(used: float, limit: float, *, css: str = "") -> Markup:
    """Draw a bar that is full at ``limit``. The text beside it says the same."""
    share = min(100.0, 100.0 * used / limit) if limit else 0.0
    return Markup('<svg class="bar {}" aria-hidden="true"><rect width="{}%" height="100%"/></svg>').format(
        css, f"{share:.0f}"
    )


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
    return "".join(f"M{run[0][0]} {run[0][1]}" + "".join(f"L{x} {y}" for x, y in run[1:]) for run in _runs(values, top))
