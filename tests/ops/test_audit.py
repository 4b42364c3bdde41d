"""``ops/audit``: no locked package has a known advisory, and one that has is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.manifests import ROOT

# Of the committed list: CVE-2023-32681, which 2.31.0 fixes.
ADVISORY = "PYSEC-2023-74"


def audit(folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, str(folder / "ops/audit")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project with no locked packages, and our list."""
    for name in ("ops/audit", "ops/advisories.json", "ops/vex.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    lock(tmp_path, [])
    (tmp_path / "tests/interop/purerpc").mkdir(parents=True)
    (tmp_path / "tests/interop/purerpc/uv.lock").write_text("package = []\n")
    return tmp_path


def lock(folder: Path, packages: list[tuple[str, str]]) -> None:
    entry = '[[package]]\nname = "{}"\nversion = "{}"\nsource = {{ registry = "https://pypi.org/simple" }}\n'
    text = "\n".join(entry.format(name, version) for name, version in packages)
    (folder / "uv.lock").write_text(text or "package = []\n")


def excuse(folder: Path, advisory: str, status: str) -> None:
    vex = json.loads((folder / "ops/vex.json").read_text())
    vex["statements"] = [{"vulnerability": {"name": advisory}, "status": status}]
    (folder / "ops/vex.json").write_text(json.dumps(vex))


def test_no_locked_package_has_a_known_advisory() -> None:
    status, lines = audit(ROOT)
    assert (status, lines[1:]) == (0, [])
    assert lines[0].endswith(" 0 findings")


@pytest.mark.parametrize(
    ("version", "is_found"), [("2.2.9", False), ("2.3.0", True), ("2.30.0", True), ("2.31.0", False)]
)
def test_a_version_of_an_advisory_is_found(copy: Path, version: str, is_found: bool) -> None:
    lock(copy, [("requests", version)])
    status, lines = audit(copy)
    assert any(ADVISORY in line for line in lines) is is_found
    assert status == int(any(line.startswith("requests") for line in lines))


@pytest.mark.parametrize(
    ("name", "status", "is_excused"),
    [(ADVISORY, "not_affected", True), ("CVE-2023-32681", "fixed", True), (ADVISORY, "affected", False)],
)
def test_a_statement_excuses_an_advisory(copy: Path, name: str, status: str, is_excused: bool) -> None:
    lock(copy, [("requests", "2.30.0")])
    excuse(copy, name, status)
    assert audit(copy)[0] == (0 if is_excused else 1)
