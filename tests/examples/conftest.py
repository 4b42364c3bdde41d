"""The examples as somebody who copied them has them, and a service that asks for TLS and a token."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import S3Bucket
from tests.examples.commands import blocks, follow, script
from tests.examples.line import Line, open_line
from tests.service.conftest import bucket  # noqa: F401  (a fixture)
from tests.service.harness import Service, running, service_environment
from tests.services.process import Program, accepts_connections, free_port

ROOT = Path(__file__).resolve().parents[2]
GATEWAYS = ("python", "node", "go")
MAX_PENDING = 10
_BUILT = ("node_modules", "dist", "__pycache__", "avion", "media", "go", "gateway")

# grpc-go is compiled once for these tests and those of tests/interop, if both use the same flags.
_DEFAULTS = {"PYTHONWARNINGS": "", "NODE_ENV": "production", "GOFLAGS": "-trimpath"}


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples, with what they find beside them; the Node packages are those of the checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", checkout / "examples", ignore=shutil.ignore_patterns(*_BUILT, "__pycache__"))
    shutil.copytree(ROOT / "proto", checkout / "proto")
    shutil.copytree(
        ROOT / "clients", checkout / "clients", ignore=shutil.ignore_patterns("node_modules", "dist", "__pycache__")
    )
    for lock in [*(ROOT / "examples").glob("*/package-lock.json"), ROOT / "clients/typescript/package-lock.json"]:
        folder = lock.parent
        (checkout / folder.relative_to(ROOT) / "node_modules").symlink_to(folder / "node_modules")
    return checkout / "examples"


def environment(**settings: str) -> dict[str, str]:
    """That of a shell in which the project's Python is active."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AVION_MEDIA_", "OTEL_")) and not name.upper().endswith("_PROXY")
    }
    path = f"{ROOT / '.venv/bin'}:{inherited['PATH']}"
    return {**inherited, "PATH": path, **_DEFAULTS, **settings}


@dataclass
class Secured:
    """The service, where its callers' credentials are, and the line over which browsers upload."""

    service: Service
    credentials: Path
    examples: Path
    line: Line
    _built: set[str] = field(default_factory=set)

    @property
    def caller(self) -> dict[str, str]:
        """The settings of a caller."""
        return {
            "AVION_MEDIA_CLIENT__ADDRESS": self.service.grpc_address.replace("127.0.0.1", "localhost"),
            "AVION_MEDIA_CLIENT__TLS_CA": str(self.credentials / "ca.pem"),
            "AVION_MEDIA_CLIENT__TOKEN_FILE": str(self.credentials / "token"),
        }

    @contextmanager
    def gateway(self, kind: str) -> Iterator[str]:
        """Build and start one of the gateways, and yield its address."""
        folder = self.examples / f"gateway-{kind}"
        port = free_port()
        client = environment(**self.caller, ORIGIN_URL=self.service.http_url, PORT=str(port))
        self._build("web", folder.parent / "web", client)
        self._build(kind, folder, client)
        (run,) = blocks(folder / "README.md", "Run")
        with _started(f"cd {folder} && exec {run.strip()}", client, self.credentials / f"{kind}.log", port):
            yield f"http://127.0.0.1:{port}"

    def _build(self, name: str, folder: Path, client: dict[str, str]) -> None:
        if name not in self._built:
            (block,) = blocks(folder / "README.md", "" if name == "web" else "Build")
            if script(block):
                follow(block, folder, client)
            self._built.add(name)


@contextmanager
def _started(command: str, client: dict[str, str], log: Path, port: int) -> Iterator[None]:
    settings = [f"{name}={value}" for name, value in client.items()]
    program = Program(["env", "-i", *settings, "bash", "-c", command], log)
    try:
        program.wait_until(lambda: accepts_connections(port), timeout_s=30)
        yield
    finally:
        program.stop()


Gateway = Callable[[str], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def secured(
    redis_of_module: str,
    bucket: S3Bucket,  # noqa: F811
    examples: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Secured]:
    """One service for the tests of a module, with the credentials that examples/README.md makes."""
    folder = tmp_path_factory.mktemp("credentials")
    make, _start, _point = blocks(examples / "README.md", "Start a service for them")
    follow(make, folder, environment())
    with open_line() as line:
        settings = service_environment(
            redis_of_module,
            bucket.address.endpoint_url,
            bucket.bucket,
            S3__PUBLIC_ENDPOINT_URL=line.to(bucket.address.endpoint_url),
            GRPC__AUTH="token",
            GRPC__CALLERS_FILE=str(folder / "callers.toml"),
            GRPC__TLS_CERT=str(folder / "ca.pem"),
            GRPC__TLS_KEY=str(folder / "key.pem"),
            UPLOAD__MAX_PENDING=str(MAX_PENDING),
        )
        with running(settings) as service:
            yield Secured(service, folder, examples, line)
