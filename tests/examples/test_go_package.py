"""Go code from the proto, without a mapping of packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"


def test_plain_protoc_makes_go(tmp_path: Path) -> None:
    subprocess.run(["protoc", "-I", str(PROTO), f"--go_out={tmp_path}", "avion/media.proto"], check=True)
    (made,) = tmp_path.rglob("*.go")
    assert "package avionpb" in made.read_text()
