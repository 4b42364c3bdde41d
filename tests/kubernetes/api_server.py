"""A kube-apiserver with an etcd of its own, and a client that applies objects as `kubectl apply --server-side` does.

There is no controller and no kubelet: objects are admitted, checked and stored, and nothing runs.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ops.manifests import Manifest
from tests.services.process import ServiceFailed, free_port, running, working_directory

_TOKEN = "an-administrator-of-this-test"
_START_S = 120.0


@dataclass(frozen=True)
class ApiServer:
    """A client of the server. Everything that it refuses or warns of is a complaint."""

    client: httpx.Client

    def apply(self, each: Manifest) -> list[str]:
        """Apply one object, with unknown fields as errors. Return the complaints."""
        parameters = {"fieldManager": "test", "fieldValidation": "Strict"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        response = self.client.patch(self._path(each), params=parameters, headers=headers, content=json.dumps(each))
        return _complaints(each, response)

    def create(self, each: Manifest) -> list[str]:
        """Create one object. Return the complaints."""
        collection = self._path(each).rpartition("/")[0]
        return _complaints(each, self.client.post(collection, params={"fieldValidation": "Strict"}, json=each))

    def set_status(self, each: Manifest, status: Manifest) -> None:
        """Write the status of an object, as its controller would."""
        headers = {"Content-Type": "application/merge-patch+json"}
        path = f"{self._path(each)}/status"
        response = self.client.patch(path, headers=headers, content=json.dumps({"status": status}))
        assert not _complaints(each, response)

    def names(self, each: Manifest) -> list[str]:
        """The names of all objects that are of the same kind, and in the same namespace."""
        found = self.client.get(self._path(each).rpartition("/")[0]).json()
        return [item["metadata"]["name"] for item in found["items"]]

    def serves(self, each: Manifest) -> bool:
        """Whether the server knows this kind."""
        return each["kind"] in self._resources(each["apiVersion"])

    def _path(self, each: Manifest) -> str:
        resource = self._resources(each["apiVersion"])[each["kind"]]
        metadata = each["metadata"]
        inside = f"/namespaces/{metadata['namespace']}" if resource["namespaced"] else ""
        return f"{_base(each['apiVersion'])}{inside}/{resource['name']}/{metadata['name']}"

    def _resources(self, api_version: str) -> dict[str, Manifest]:
        response = self.client.get(_base(api_version))
        found = response.json().get("resources", []) if response.is_success else []
        return {item["kind"]: item for item in found if "/" not in item["name"]}


def _base(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _complaints(each: Manifest, response: httpx.Response) -> list[str]:
    warnings = response.headers.get_list("Warning")
    refused = [] if response.is_success else [str(response.json().get("message", response.text))]
    return [f"{each['kind']} {each['metadata']['name']}: {text}" for text in [*warnings, *refused]]


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Start both programs, which ``KUBE_APISERVER`` and ``ETCD`` name. Raises ServiceFailed."""
    with working_directory("kubernetes") as directory, _etcd(directory) as etcd:
        port, key, tokens = free_port(), directory / "accounts.key", directory / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens.write_text(f"{_TOKEN},admin,1,system:masters\n")
        command: list[str | Path] = [
            _program("KUBE_APISERVER"),
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={directory}",  # where it makes a certificate of its own
            f"--token-auth-file={tokens}",
            "--authorization-mode=AlwaysAllow",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",  # a controller would have to make the accounts' roots
        ]
        trusted = ssl.create_default_context()
        trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {_TOKEN}"}
        with (
            running(command, directory / "apiserver.log") as server,
            httpx.Client(
                base_url=f"https://127.0.0.1:{port}", verify=trusted, headers=headers, trust_env=False, timeout=60
            ) as client,
        ):
            server.wait_until(lambda: _answers(client, "/readyz"), timeout_s=_START_S)
            yield ApiServer(client)


@contextmanager
def _etcd(directory: Path) -> Iterator[str]:
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command: list[str | Path] = [
        _program("ETCD"), "--data-dir", directory / "etcd",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip
    with (
        running(command, directory / "etcd.log") as server,
        httpx.Client(base_url=client, trust_env=False, verify=False) as asking,
    ):
        server.wait_until(lambda: _answers(asking, "/health"), timeout_s=_START_S)
        yield client


def _program(variable: str) -> str:
    path = os.environ.get(variable, "")
    if not path:
        raise ServiceFailed(f"{variable} must be the path of the program")
    return path


def _answers(client: httpx.Client, path: str) -> bool:
    with suppress(httpx.HTTPError):
        return client.get(path).is_success
    return False
