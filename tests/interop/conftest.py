"""What the interoperability tests share: Node's packages and certificates."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.interop.programs import built

_NODE = Path(__file__).parent / "node"
_GO = Path(__file__).parent / "go" / "main.go"


@pytest.fixture(scope="session")
def node_client() -> Path:
    """The Node.js client, its locked packages installed."""
    installed = _NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (_NODE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=_NODE, check=True, timeout=300)
    return _NODE / "client.js"


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client of grpc-go."""
    return built(_GO, tmp_path_factory.mktemp("go"))


@dataclass(frozen=True)
class Certificates:
    """A certificate authority, what it issued for ``localhost`` and for a client, and its certificate in a file."""

    authority: trustme.CA
    server: trustme.LeafCert
    client: trustme.LeafCert
    ca_path: Path

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate."""
        return self.authority.cert_pem.bytes()

    def server_context(self, *, ask_clients: bool = False) -> ssl.SSLContext:
        """For the server; with ``ask_clients`` a client without a certificate of ours is refused."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.configure_cert(context)
        context.set_alpn_protocols(["h2"])
        if ask_clients:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Fresh certificates."""
    authority = trustme.CA()
    ca_path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_path))
    server = authority.issue_cert("localhost", "127.0.0.1")
    return Certificates(authority, server, authority.issue_cert("gateway@avion.test"), ca_path)
