"""The shell scripts have none of the mistakes that shellcheck knows."""

from __future__ import annotations

import subprocess

from tests.ops.manifests import ROOT


def scripts() -> list[str]:
    found = subprocess.run(
        ["git", "grep", "-lIE", r"^#!.*\b(sh|bash)$"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    return found.stdout.split()


def test_shellcheck_finds_nothing() -> None:
    names = scripts()
    assert {".ci/run", "ops/bootstrap", "ops/build-image"} <= set(names)
    done = subprocess.run(
        ["shellcheck", "--format", "gcc", *names], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    assert done.returncode == 0
