"""What a release consists of: one version everywhere, and wheels that work on their own."""

from __future__ import annotations

import re
import subprocess
import tomllib

import yaml

from tests.ops.manifests import OVERLAYS, ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_version_is_the_same_everywhere() -> None:
    assert re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == VERSION
    compose = yaml.safe_load((ROOT / "ops/compose/compose.yaml").read_text())
    assert compose["services"]["media"]["image"] == f"avion-media:{VERSION}"
    for overlay in OVERLAYS:
        overlaid = yaml.safe_load((ROOT / f"ops/kubernetes/overlays/{overlay}/kustomization.yaml").read_text())
        assert [each["newTag"] for each in overlaid["images"]] == [VERSION]


def test_the_wheels_work_in_a_clean_environment() -> None:
    done = subprocess.run([ROOT / "ops/test-wheels"], capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert VERSION in done.stdout
