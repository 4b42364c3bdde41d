"""Programs of grpc-go and grpc-java, on Debian's packages (golang-google-grpc-dev and libgrpc-java), and purerpc's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
PURERPC = (str(_ROOT / "build/purerpc-env/bin/python"), str(_ROOT / "tests/interop/purerpc/client.py"))
"""Its client in the environment that ``ops/bootstrap test`` makes; a port follows."""
_JARS = Path("/usr/share/java")
_CLASSPATH = (
    *("grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-stub", "guava", "perfmark-api"),
    *(f"netty-{part}" for part in ("buffer", "codec", "codec-http", "codec-http2", "common", "handler", "resolver")),
    *("netty-transport", "netty-transport-native-unix-common"),
)


def java_command(source: Path) -> list[str]:
    """The command that compiles and runs one Java file."""
    return ["java", "-cp", ":".join(str(_JARS / f"{each}.jar") for each in _CLASSPATH), str(source)]


def built(source: Path, directory: Path) -> Path:
    """The program of one Go file, built into ``directory``. It can import our own client."""
    program = directory / source.stem
    packages = directory / "src/avion.example/media"
    packages.mkdir(parents=True, exist_ok=True)
    if not (packages / "client").exists():
        (packages / "client").symlink_to(_ROOT / "clients/go")
    path = f"{directory}:/usr/share/gocode"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": path, "GOFLAGS": "-trimpath"}
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True, timeout=600)
    return program
