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
# The only one of h11 0.15: CVE-2025-43859.
ONLY = "GHSA-vqfr-h8mv-ghfj"


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
    ("name", "advisory", "version", "is_found"),
    [
        ("requests", ADVISORY, "2.2.9", False),
        ("requests", ADVISORY, "2.3.0", True),
        ("requests", ADVISORY, "2.30.0", True),
        ("requests", ADVISORY, "2.31.0", False),
        ("h11", "CVE-2025-43859", "0.15.0", True),  # of the later copy
        ("h11", "CVE-2025-43859", "0.16.0", False),
        ("pillow", "CVE-2025-48379", "11.1.0", False),
        ("pillow", "CVE-2025-48379", "11.2.0", True),
        ("pillow", "CVE-2025-48379", "11.3.0", False),
    ],
)
def test_a_version_of_an_advisory_is_found(copy: Path, name: str, advisory: str, version: str, is_found: bool) -> None:
    lock(copy, [(name, version)])
    status, lines = audit(copy)
    assert any(advisory in line for line in lines) is is_found
    assert status == int(any(line.startswith(name) for line in lines))


@pytest.mark.parametrize(
    ("name", "status", "is_excused"),
    [(ONLY, "not_affected", True), ("CVE-2025-43859", "fixed", True), (ONLY, "affected", False)],
)
def test_a_statement_excuses_an_advisory(copy: Path, name: str, status: str, is_excused: bool) -> None:
    lock(copy, [("h11", "0.15.0")])
    excuse(copy, name, status)
    assert audit(copy)[0] == (0 if is_excused else 1)
