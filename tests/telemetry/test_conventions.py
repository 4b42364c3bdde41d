"""Names that are not ours are those of OpenTelemetry's present semantic conventions, and none is deprecated."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import opentelemetry.semconv

from avion_media.common.telemetry.instruments import INSTRUMENTS
from tests.telemetry.test_traces import documented_spans

OUR_NAMES = re.compile(r"avion\..*|[a-z]+")  # labels without a dot have no place in the conventions


@cache
def conventions() -> dict[str, str]:
    """Every metric and attribute of the installed package that is not deprecated, with its description."""
    found: dict[str, str] = {}
    for folder in (Path(each) for each in opentelemetry.semconv.__path__):
        for path in [*folder.rglob("*_metrics.py"), *folder.rglob("*_attributes.py")]:
            found |= dict(_constants(ast.parse(path.read_text()).body))
    assert len(found) > 500
    return found


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.value, ast.Constant):
            described = ast.literal_eval(following.value) if isinstance(following, ast.Expr) else ""
            if not described.startswith("\nDeprecated"):
                yield str(statement.value.value), described


def foreign(names: set[str]) -> set[str]:
    return {name for name in names if not OUR_NAMES.fullmatch(name)}


def test_metrics_are_those_of_the_conventions_with_their_units() -> None:
    of_conventions = [each for each in INSTRUMENTS if not OUR_NAMES.fullmatch(each.name)]
    assert {"messaging.client.operation.duration", "http.server.request.duration"} <= {e.name for e in of_conventions}
    for instrument in of_conventions:
        assert f"\nUnit: {instrument.unit}\n" in conventions()[instrument.name] + "\n", instrument.name


def test_attributes_are_those_of_the_conventions() -> None:
    of_metrics = {attribute.name for each in INSTRUMENTS for attribute in each.attributes}
    of_spans = {name for span in documented_spans() for name in span.attributes}
    assert "messaging.consumer.group.name" in of_metrics & of_spans
    assert foreign(of_metrics | of_spans) - conventions().keys() == set()


def test_a_deprecated_name_would_be_found() -> None:
    assert foreign({"rpc.system", "messaging.operation", "rpc.method"}) & conventions().keys() == {"rpc.method"}
