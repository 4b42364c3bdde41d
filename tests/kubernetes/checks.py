"""Both overlays with all components are admitted by a real API server: at first, again, and as the next release."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.api_server import ApiServer, api_server
from tests.ops.manifests import COMPONENTS, CRDS, OVERLAYS, Manifest, build_with, components_of, pods_of

NEXT = [{"name": "registry.example/avion-media", "newTag": "9.9.9"}]
DONE = {
    "startTime": "2026-11-30T00:00:00Z",
    "completionTime": "2026-11-30T00:00:10Z",
    "succeeded": 1,
    "conditions": [
        {"type": kind, "status": "True", "lastProbeTime": "2026-11-30T00:00:10Z"}
        for kind in ("SuccessCriteriaMet", "Complete")
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """It has the definitions of all custom resources."""
    with api_server() as server:
        assert not [complaint for each in CRDS for complaint in server.apply(each)]
        for each in CRDS:
            spec = each["spec"]
            kinds = [
                {"apiVersion": f"{spec['group']}/{version['name']}", "kind": spec["names"]["kind"]}
                for version in spec["versions"]
                if version["served"]
            ]
            deadline = time.monotonic() + 60
            while not all(map(server.serves, kinds)):
                assert time.monotonic() < deadline, kinds
                time.sleep(0.1)
        yield server


def with_all(folder: Path, overlay: str, **more: Any) -> tuple[Manifest, ...]:
    """The objects of an overlay with all components."""
    return build_with(folder, overlay, sorted({*COMPONENTS} - components_of(overlay)), **more)


def apply_all(server: ApiServer, objects: tuple[Manifest, ...]) -> list[str]:
    """Apply them, the namespace first."""
    ordered = sorted(objects, key=lambda each: each["kind"] != "Namespace")
    return [complaint for each in ordered for complaint in server.apply(each)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_is_applied_twice_and_upgraded_over_a_finished_init_job(
    server: ApiServer, overlay: str, tmp_path: Path
) -> None:
    objects = with_all(tmp_path / "now", overlay)
    assert not apply_all(server, objects)
    (job,) = (each for each in objects if each["kind"] == "Job")
    server.set_status(job, DONE)
    assert not apply_all(server, objects)

    upgraded = with_all(tmp_path / "next", overlay, images=NEXT)
    assert not apply_all(server, upgraded)
    (next_job,) = (each for each in upgraded if each["kind"] == "Job")
    assert job["metadata"]["name"] != next_job["metadata"]["name"]
    assert {job["metadata"]["name"], next_job["metadata"]["name"]} <= set(server.names(job))

    setting = {"name": "avion-media-config", "behavior": "merge", "literals": ["AVION_MEDIA_S3__BUCKET=another"]}
    changed = with_all(tmp_path / "changed", overlay, images=NEXT, configMapGenerator=[setting])
    assert not apply_all(server, changed)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_its_pods_are_admitted_by_the_restricted_profile(server: ApiServer, overlay: str, tmp_path: Path) -> None:
    objects = with_all(tmp_path, overlay)
    apply_all(server, objects)
    for name, template in pods_of(objects):
        pod = copy.deepcopy(template) | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] |= {"namespace": "avion-media", "name": f"{overlay}-{name}"}
        assert not server.create(pod)
    careless = pod | {"metadata": {"namespace": "avion-media", "name": f"{overlay}-careless"}}
    careless["spec"]["containers"][0]["securityContext"] = {}
    (refusal,) = [each for each in server.create(careless) if "restricted" in each and "forbidden" in each]
    assert "allowPrivilegeEscalation" in refusal
