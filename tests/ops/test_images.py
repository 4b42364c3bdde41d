"""The Dockerfiles: no complaint of hadolint, and what the service and Kubernetes rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.manifests import ROOT, image_settings

DOCKERFILES = [ROOT / "Dockerfile", ROOT / "ops/compose/store/Dockerfile"]
# DL3008: versions of Debian's packages are pinned by the release; a pinned one would miss its security fixes.
# DL3066: the store's user has the number that Debian gave it.
_ACCEPTED = ["--ignore", "DL3008", "--ignore", "DL3066"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_has_no_complaint(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *_ACCEPTED, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_the_first_process_and_not_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["avion-media"]' in lines
    assert "USER 10001:10001" in lines
    assert "STOPSIGNAL SIGTERM" in lines


def test_everything_is_locked() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert text.count("uv sync") == text.count("uv sync --locked") == 3


def test_all_ports_are_open_and_logs_are_for_machines() -> None:
    settings = image_settings()
    assert settings["AVION_MEDIA_LOG__FORMAT"] == "json"
    assert {settings[f"AVION_MEDIA_{port}__BIND"].split(":")[0] for port in ("GRPC", "HTTP", "ADMIN")} == {"0.0.0.0"}


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert allowed == copied
