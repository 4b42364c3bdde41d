"""What is measured: instruments, and their attributes, all of which are known in advance.

Attributes become labels, and each new value a time series that is kept forever. So nothing that a client can choose (a
path, an id, an unknown method) becomes a value: all other values count as ``_OTHER``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

Kind = Literal["counter", "histogram", "gauge", "updown", "total"]
"""The last three are read when metrics are collected: a value, a sum that can shrink, a sum that only grows."""
_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes", "1": ""}
OTHER = "_OTHER"
NONE = ""
MAX_OPEN_VALUES = 64
"""Of an attribute whose values follow from the code's own names, such as the paths of the tree."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. Without ``values`` it is open: described by ``meaning``, and bounded by `MAX_OPEN_VALUES`.

    With one value it is constant: nobody need give it.
    """

    name: str
    values: tuple[str, ...] = ()
    meaning: str = ""

    def described(self) -> str:
        """For the documentation: the values, or what they are."""
        shown = ", ".join(f"`{each}`" if each else "empty" for each in self.values)
        return f"{self.meaning}: {shown}" if self.meaning and shown else self.meaning or shown


SPAN_OUTCOME = Attribute("outcome", ("exported", "dropped", "failed"))
"""What became of a span that was handed to the exporter."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric: its kind, unit (UCUM), meaning, and the attributes of its points. Empty ones are left out."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[Attribute, ...] = ()
    boundaries: tuple[float, ...] = ()
    first: tuple[tuple[str, ...], ...] = ()
    """Attribute values, in their order, that a counter has from process start; by default all possible ones."""
    exemplars: bool = False
    """Whether its buckets name a trace. It must then be recorded at the end of its span, whose trace is known."""

    @property
    def prometheus_name(self) -> str:
        """Its name on ``/metrics``, by the rules of OpenTelemetry's exporter.

        A histogram's series add ``_bucket``, ``_sum`` and ``_count``. No other name must end in these (``promtool check
        metrics``), so ``process.unix.file_descriptor.count`` of the conventions has a name of our own.
        """
        unit = "" if self.unit.startswith("{") else _PROMETHEUS_UNITS[self.unit]
        name = re.sub(r"[^a-zA-Z0-9]", "_", self.name) + (f"_{unit}" if unit else "")
        return f"{name}_total" if self.kind in ("counter", "total") else name

    def zeros(self) -> list[dict[str, str]]:
        """The attribute sets that a counter has from process start, so that rates include the first event.

        None if values are open; the code that knows the values then counts zero.
        """
        if not all(each.values for each in self.attributes):
            return []
        names = [each.name for each in self.attributes]
        sets = self.first or product(*(each.values for each in self.attributes))
        return [dict(zip(names, each, strict=True)) for each in sets]
