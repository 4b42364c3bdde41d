"""Alert rules and dashboards: accepted by promtool, each alert shown to fire, and on metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from avion_media.common.telemetry.instruments import INSTRUMENTS
from avion_media.servers.console.prometheus import queries
from tests.ops.manifests import ROOT

PROMETHEUS = ROOT / "ops/prometheus"
RULE_TESTS = sorted(PROMETHEUS.glob("*.test.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"
DASHBOARDS = sorted((ROOT / "ops/grafana").glob("*.json"))
_OURS = re.compile(r"\b(?:avion|rpc|http|messaging|process)_[a-z0-9_]+")
# Labels that Prometheus gives, and `le` of histograms.
_LABELS_OF_PROMETHEUS = {"job", "namespace", "instance", "le"}


def _promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _alerts() -> list[dict[str, Any]]:
    return [rule for rule in _rules() if "alert" in rule]


def _queries() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in _rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for (title, _), expression in queries(60.0).items():
        yield f"console: {title}", expression
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]


def _scraped(attribute: str) -> str:
    """The label as Prometheus stores it: its own labels win, and a metric's is renamed."""
    label = attribute.replace(".", "_")
    return f"exported_{label}" if label in _LABELS_OF_PROMETHEUS else label


def _series() -> dict[str, set[str]]:
    """The names on /metrics, each with its labels."""
    series: dict[str, set[str]] = {}
    for each in INSTRUMENTS:
        suffixes = ("_bucket", "_count", "_sum") if each.kind == "histogram" else ("",)
        labels = {_scraped(attribute.name) for attribute in each.attributes}
        series |= {each.prometheus_name + suffix: labels for suffix in suffixes}
    return series


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    _promtool("check", "rules", "--lint-fatal", PROMETHEUS / "alerts.yaml")
    _promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_promtool_accepts_the_queries_of_dashboards_and_the_console(tmp_path: Path) -> None:
    variables = {"$__rate_interval": "1m", "$namespace": ".*", "$instance": ".*"}
    rules = []
    for number, (_, query) in enumerate(_queries()):
        for name, value in variables.items():
            query = query.replace(name, value)
        rules.append({"record": f"query:{number}", "expr": query})
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.dump({"groups": [{"name": "queries", "rules": rules}]}))
    _promtool("check", "rules", "--lint-fatal", path)


def test_the_rules_pass_their_unit_tests() -> None:
    _promtool("test", "rules", *RULE_TESTS)


def _minutes(case: dict[str, Any]) -> int:
    return int(case["eval_time"].removesuffix("m"))


def test_every_alert_fires_in_a_unit_test_first_does_not_and_then_ends() -> None:
    tests = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    fired: set[tuple[str, str]] = set()
    ended: set[str] = set()
    silent: set[str] = set()
    for cases in (each.get("alert_rule_test", []) for each in tests):
        for case in cases:
            of_alert = [each for each in cases if each["alertname"] == case["alertname"]]
            firing = [_minutes(each) for each in of_alert if each["exp_alerts"]]
            fired |= {(case["alertname"], alert["exp_labels"]["severity"]) for alert in case["exp_alerts"]}
            if firing and not case["exp_alerts"]:
                (ended if _minutes(case) > max(firing) else silent).add(case["alertname"])
    assert fired == {(alert["alert"], alert["labels"]["severity"]) for alert in _alerts()}
    assert silent == ended == {alert["alert"] for alert in _alerts()}


def test_every_alert_has_a_runbook_that_there_is_and_every_runbook_an_alert() -> None:
    named = {alert["annotations"]["runbook_url"].rstrip("/").rpartition("/")[2] for alert in _alerts()}
    there = {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
    assert named == there
    for alert in _alerts():
        page = alert["annotations"]["runbook_url"].rstrip("/").rpartition("/")[2]
        assert alert["alert"] in (RUNBOOKS / f"{page}.md").read_text(), f"{page} does not name {alert['alert']}"
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_queries_use_metrics_and_labels_that_there_are() -> None:
    series = _series()
    for where, query in _queries():
        for metric, selected in re.findall(r"\b(\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selected)))
            known = series.get(metric, set()) | _LABELS_OF_PROMETHEUS
            assert labels <= known, f"{where}: {metric} has no {labels - known}"
        without_texts = re.sub(r"avion_media:\w+:\w+", "recorded", re.sub(r'"[^"]*"', '""', query))
        labels_used = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", query))
        for grouping in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
            labels_used |= {label.strip() for label in grouping.split(",") if label.strip()}
        metrics = set(_OURS.findall(without_texts)) - labels_used
        known = _LABELS_OF_PROMETHEUS.union(*(series[each] for each in metrics & series.keys()))
        assert metrics or "up{" in query or "recorded" in without_texts, where
        assert metrics <= series.keys(), f"{where}: {metrics - series.keys()}"
        assert labels_used <= known, f"{where}: {labels_used - known}"


def test_rules_are_those_of_this_service_and_of_one_environment() -> None:
    for rule in _rules():
        for selected in re.findall(r"\b(?!avion_media:)[\w:]+\{([^}]*)\}", rule["expr"]):
            assert 'job="avion-media"' in selected, rule
        for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", rule["expr"]):
            assert "namespace" in labels, rule


def test_dashboards_are_of_the_environments_that_are_selected() -> None:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                for selected in re.findall(r"\w\{([^}]*)\}", target["expr"]):
                    assert 'namespace=~"$namespace"' in selected, target


def _grouped(query: str) -> set[str]:
    """The labels that a query groups by, so that its result has them."""
    return {label.strip() for labels in re.findall(r"\bby\s*\(([^)]*)\)", query) for label in labels.split(",")}


def test_texts_name_labels_that_their_queries_return() -> None:
    for alert in _alerts():
        named = set(re.findall(r"\$labels\.(\w+)", str(alert["annotations"])))
        assert named <= _grouped(alert["expr"]) | ({"instance"} if "up{" in alert["expr"] else set()), alert["alert"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                assert named <= _grouped(target["expr"]), f"{path.name}: {panel['title']}"


def test_recorded_series_are_used_and_there() -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    used = {name for _, query in _queries() for name in re.findall(r"avion_media:\w+:\w+", query)}
    assert used == recorded


def test_the_page_of_service_levels_the_alerts_and_the_dashboard_agree() -> None:
    page = (ROOT / "docs/service-levels.md").read_text()
    targets = {name: float(percent) for percent, name in re.findall(r"\| ([\d.]+) % \|.*\| `(\w+)` \|", page)}
    assert targets.keys() == {rule["record"].split(":")[1] for rule in _rules() if "record" in rule}
    for name, percent in targets.items():
        budget = f"{1 - percent / 100:.6g}"
        mine = [query for _, query in _queries() if f"avion_media:{name}:" in query]
        compared = [each for query in mine for each in re.findall(r":ratio_rate\w+ > ((?:[\d.]+ \* )?[\d.]+)", query)]
        assert {each.split(" * ")[-1] for each in compared} == {budget}, name
        assert set(re.findall(r"\) / ([\d.]+)$", "\n".join(mine), re.MULTILINE)) == {budget}, name
        rates = {each.split(" * ")[0] for each in compared if "*" in each}
        assert rates == set(re.findall(r"^\| page \|.*\| ([\d.]+) \|", page, re.MULTILINE))


def test_buckets_in_queries_are_buckets_that_there_are() -> None:
    boundaries = {each.prometheus_name: each.boundaries for each in INSTRUMENTS}
    for where, query in _queries():
        for name, limit in re.findall(r'(\w+)_bucket\{[^}]*\ble="([^"]+)"', query):
            assert limit in map(str, boundaries[name]), where


def test_values_in_queries_are_values_that_there_are() -> None:
    values: dict[str, set[str]] = {}
    open_labels = set(_LABELS_OF_PROMETHEUS)
    for each in INSTRUMENTS:
        for attribute in each.attributes:
            label = _scraped(attribute.name)
            values.setdefault(label, set()).update(attribute.values)
            if not attribute.values:
                open_labels.add(label)
    for where, query in _queries():
        for label, operator, text in re.findall(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"', query):
            if label not in open_labels and "." not in text:
                named = set(text.split("|")) if "~" in operator else {text}
                assert named <= values[label] | {""}, f"{where}: {label} is never {named - values[label]}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_what_the_generator_writes(path: Path) -> None:
    subprocess.run([ROOT / "ops/generate-dashboards", "--check"], check=True, timeout=60)
    dashboard = json.loads(path.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_pictures_show_the_present_panels(path: Path) -> None:
    picture = (ROOT / "docs/images" / f"dashboard-{path.stem}.svg").read_text()
    titles = re.findall(r'font-weight="bold">([^<]*)</text>', picture)
    panels = [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]
    assert titles == [panel["title"] for panel in panels], "python -m tests.telemetry.pictures, and look at them"
