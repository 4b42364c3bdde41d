"""The Kubernetes manifests as `kubectl kustomize` would print them, and how to find one's way in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from avion_media.common.settings import PREFIX
from avion_media.config import Config, load
from avion_media.process.runtime import ROLES

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = tuple(sorted(each.name for each in (ROOT / "ops/kubernetes/overlays").iterdir()))
COMPONENTS = tuple(sorted(each.name for each in (ROOT / "ops/kubernetes/components").iterdir()))
# The oldest version whose fields are all used (matchLabelKeys), and the newest whose schemas there are.
KUBERNETES = ("1.29", "1.37")
Manifest = dict[str, Any]
CRDS: tuple[Manifest, ...] = tuple(
    yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted((ROOT / "tests/data/crds").glob("*.yaml"))
)
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


@cache
def build(overlay: str) -> tuple[Manifest, ...]:
    """All objects of an overlay, by kustomize itself."""
    return kustomize(ROOT / "ops/kubernetes/overlays" / overlay)


def kustomize(folder: Path) -> tuple[Manifest, ...]:
    """All objects of a folder with a kustomization."""
    command = ["kustomize", "build", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def build_with(folder: Path, overlay: str, components: Iterable[str] = (), **more: Any) -> tuple[Manifest, ...]:
    """All objects of an overlay with components that it does not have, and ``more`` in its kustomization."""
    folder.mkdir(exist_ok=True)
    relative = os.path.relpath(ROOT / "ops/kubernetes", folder.resolve())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "avion-media",
        "resources": [f"{relative}/overlays/{overlay}"],
        "components": [f"{relative}/components/{each}" for each in components],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(folder)


def components_of(overlay: str) -> set[str]:
    """The components that an overlay has."""
    text = (ROOT / "ops/kubernetes/overlays" / overlay / "kustomization.yaml").read_text()
    return {Path(each).name for each in yaml.safe_load(text).get("components", [])}


def validate(each: Manifest, version: str) -> None:
    """Fail unless the object passes its schema strictly: that of a version of Kubernetes, or of a custom resource."""
    schema = _custom_schemas().get((each["apiVersion"], each["kind"]))
    if schema is not None:
        jsonschema.Draft7Validator(schema).validate(each)  # its patterns are Go's: not to be checked as Python's
    else:
        kubernetes_validate.validate(each, version, strict=True)


@cache
def _custom_schemas() -> dict[tuple[str, str], Manifest]:
    schemas = {}
    for each in CRDS:
        spec = each["spec"]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
            schemas[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return schemas


def _strict(schema: Any) -> Any:
    """Return the schema with unknown fields as errors, which the server only drops or warns of."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(each) for name, each in schema.items()}
    if "properties" in strict and "type" in strict and not strict.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    if strict.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    """The overlay's objects of these kinds."""
    return [each for each in build(overlay) if each["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    """One object."""
    return next(each for each in of_kind(overlay, kind) if each["metadata"]["name"] == name)


def pods(overlay: str) -> Iterator[tuple[str, Manifest]]:
    """The pod template of everything that makes pods, with the name of what makes them."""
    return pods_of(build(overlay))


def pods_of(objects: Iterable[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The same for these objects."""
    for each in objects:
        if each["kind"] in ("Deployment", "Job"):
            yield each["metadata"]["name"], each["spec"]["template"]
        elif each["kind"] == "CronJob":
            yield each["metadata"]["name"], each["spec"]["jobTemplate"]["spec"]["template"]


def container(pod: Manifest) -> Manifest:
    """Its only container."""
    (only,) = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def image_settings() -> dict[str, str]:
    """The settings that the image itself brings along."""
    return dict(re.findall(rf"({PREFIX}\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))


def settings(overlay: str) -> Config:
    """What a pod takes from its image and the overlay's ConfigMap. Raises `ConfigError` as the service would."""
    (config_map,) = of_kind(overlay, "ConfigMap")
    given = {name: value for name, value in config_map["data"].items() if name.startswith(PREFIX)}
    return load(image_settings() | given)


def roles(pod: Manifest) -> frozenset[str]:
    """The roles that a pod's ``serve`` is given; empty for another command."""
    args = container(pod)["args"]
    if args[0] != "serve":
        return frozenset()
    wanted = frozenset(args[args.index("--roles") + 1].split(","))
    assert wanted <= frozenset(ROLES)
    return wanted


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity with a binary suffix."""
    return int(text[:-2]) * _BINARY[text[-2:]]
