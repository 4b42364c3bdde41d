"""The kustomize components: each can be added to each overlay, and refers to what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.ops.manifests import (
    COMPONENTS,
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Manifest,
    build,
    build_with,
    components_of,
    named,
    of_kind,
    pods,
    validate,
)

ADDED = {
    "gateway": {"HTTPRoute", "GRPCRoute"},
    "ingress": {"Ingress"},
    "prometheus": {"PodMonitor", "PrometheusRule"},
}


def component(name: str) -> dict[str, Manifest]:
    """The objects of a component by kind."""
    folder = ROOT / "ops/kubernetes/components" / name
    resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    objects = [each for path in resources for each in yaml.safe_load_all((folder / path).read_text())]
    return {each["kind"]: each for each in objects}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", sorted(ADDED))
def test_each_component_can_be_added_to_each_overlay(tmp_path: Path, name: str, overlay: str) -> None:
    built = build_with(tmp_path, overlay, [name])
    assert {each["kind"] for each in built} == {each["kind"] for each in build(overlay)} | ADDED[name]
    for each in built:
        if each["kind"] in ADDED[name]:
            assert each["metadata"]["namespace"] == "avion-media"
            for version in KUBERNETES:
                validate(each, version)


def test_all_components_are_tried() -> None:
    used = {each for overlay in OVERLAYS for each in components_of(overlay)}
    assert used | ADDED.keys() == set(COMPONENTS)


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_schemas_of_custom_resources_find_a_mistake(kind: str) -> None:
    right = component("prometheus")[kind]
    with pytest.raises(jsonschema.ValidationError):
        validate(right | {"spec": right["spec"] | {"grups": []}}, KUBERNETES[-1])


def test_every_replica_is_scraped_as_the_alerts_expect() -> None:
    spec = component("prometheus")["PodMonitor"]["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    scraped = {
        name
        for name, pod in pods("production")
        if spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        for port in pod["spec"]["containers"][0].get("ports", [])
        if port["name"] == endpoint["port"]
    }
    assert scraped == {each["metadata"]["name"] for each in of_kind("production", "Deployment")}
    labels = {each["targetLabel"]: each.get("replacement") for each in endpoint["relabelings"]}
    assert f'up{{job="{labels["job"]}"}}' in (ROOT / "ops/prometheus/alerts.yaml").read_text()


def test_the_rules_are_those_of_prometheus() -> None:
    subprocess.run([sys.executable, ROOT / "ops/generate-rules", "--check"], check=True, timeout=60)
    source = yaml.safe_load((ROOT / "ops/prometheus/alerts.yaml").read_text())
    assert component("prometheus")["PrometheusRule"]["spec"] == source


def _backends(name: str) -> list[tuple[str, Any]]:
    found = str(list(component(name).values()))
    services = re.findall(r"\{'name': '(avion-media-\w+)', 'port': (?:\{'name': '(\w+)'\}|(\d+))\}", found)
    return [(service, port or int(number)) for service, port, number in services]


@pytest.mark.parametrize(("name", "count"), [("ingress", 1), ("gateway", 2)])
def test_traffic_is_sent_to_services_and_ports_that_there_are(name: str, count: int) -> None:
    backends = _backends(name)
    assert len(backends) == count
    for service, port in backends:
        ports = named("production", "Service", service)["spec"]["ports"]
        assert port in {each["name"] for each in ports} | {each["port"] for each in ports}


def test_the_admin_port_is_exposed_by_none() -> None:
    for name in ADDED.keys() - {"prometheus"}:
        assert "admin" not in str(component(name))
