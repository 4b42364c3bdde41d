"""The workflows: as thin as they can be, the same on both forges, and each command exists."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import yaml

from tests.ops.manifests import ROOT

GITHUB, FORGEJO = ROOT / ".github/workflows/ci.yaml", ROOT / ".forgejo/workflows/ci.yaml"


def workflow(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # YAML 1.1 reads `on` as true
    return loaded


def test_both_forges_do_the_same() -> None:
    text = GITHUB.read_text().replace("ubuntu-latest", "docker")
    assert text.replace("actions/checkout@", "https://code.forgejo.org/actions/checkout@") == FORGEJO.read_text()


@pytest.mark.parametrize("path", [GITHUB, FORGEJO], ids=["github", "forgejo"])
def test_a_workflow_calls_what_everybody_can_call(path: Any) -> None:
    loaded = workflow(path.read_text())
    assert loaded["permissions"] == {"contents": "read"}
    (job,) = loaded["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == "${{ matrix.command }}"
    commands = job["strategy"]["matrix"]["command"]
    assert commands == [".ci/run", "make wheels", "make libraries", "make image"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands:
        made, _, target = command.partition("make ")
        assert target in targets if target else os.access(ROOT / made, os.X_OK)
    for step in job["steps"]:
        assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"]), "a tag can be moved"


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_issue_form_has_a_name_and_fields_of_their_own(path: Any) -> None:
    form = workflow(path.read_text())
    assert {"name", "description", "body"} <= set(form)
    assert {field["type"] for field in form["body"]} <= {"input", "textarea"}
    assert all(field["attributes"]["label"] for field in form["body"])
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
