"""Programs of grpc-go, built from Debian's packages: golang-go and golang-google-grpc-dev."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def built(source: Path, directory: Path) -> Path:
    """The program of one Go file, built into ``directory``."""
    program = directory / source.stem
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True, timeout=600)
    return program
