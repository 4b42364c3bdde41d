"""Decides which traces are recorded: the standard samplers of ``OTEL_TRACES_SAMPLER``.

The SDK's own samplers take some microseconds per span and need its objects; the six of the specification are one line
each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from avion_media.common.telemetry.context import TraceContext

Sampler = Callable[[int, TraceContext | None], bool]
"""Whether to record, by the trace's id and the remote parent, if there is one."""
DEFAULT = "parentbased_always_on"
_RATIO_BITS = 64


def sampler_from(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler of ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG``. Raises ValueError for invalid
    values."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or DEFAULT
    root_name = name.removeprefix("parentbased_")
    roots: dict[str, Callable[[], Sampler]] = {
        "always_on": lambda: lambda _trace_id, _parent: True,
        "always_off": lambda: lambda _trace_id, _parent: False,
        "traceidratio": lambda: _by_ratio(_ratio(environ.get("OTEL_TRACES_SAMPLER_ARG", ""))),
    }
    if root_name not in roots:
        known = sorted([*roots, *(f"parentbased_{each}" for each in roots)])
        raise ValueError(f"OTEL_TRACES_SAMPLER={name}: expected one of {', '.join(known)}")
    root = roots[root_name]()
    return root if name == root_name else _by_parent(root)


def _by_parent(root: Sampler) -> Sampler:
    return lambda trace_id, parent: root(trace_id, None) if parent is None else parent.sampled


def _by_ratio(ratio: float) -> Sampler:
    """Decide like the SDKs, by the last 64 bits, so that all processes decide alike."""
    bound = round(ratio * (1 << _RATIO_BITS))
    return lambda trace_id, _parent: trace_id & ((1 << _RATIO_BITS) - 1) < bound


def _ratio(text: str) -> float:
    try:
        ratio = float(text or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG={text}: expected a number from 0 to 1")
    return ratio
