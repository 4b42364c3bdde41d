"""A service whose admin port and origin speak TLS themselves."""

from __future__ import annotations

import json
import ssl
from functools import partial
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.test_console_access import log_in

TOKEN = "an-operators-token-of-32-characters"


def serial_at(address: str, trusted: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new connection gets."""
    with httpx.Client(verify=trusted, trust_env=False) as client, client.stream("GET", f"{address}/livez") as response:
        connection = response.extensions["network_stream"].get_extra_info("ssl_object")
        return str(connection.getpeercert()["serialNumber"])


def test_the_admin_port_and_the_origin_speak_tls(redis_of_process: str, bucket: S3Bucket, tmp_path: Path) -> None:
    authority, path = trustme.CA(), tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    settings = {"ADMIN__TLS_CERT": str(path), "HTTP__TLS_CERT": str(path), "ADMIN__TOKEN": TOKEN}
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket, **settings)
    with running(environment, roles="http") as service:
        for url in (f"{service.admin_url}/metrics", f"{service.http_url}/capabilities"):
            assert httpx.get(url, verify=trusted, trust_env=False).status_code == 200
            with pytest.raises(httpx.TransportError):
                httpx.get(url.replace("https:", "http:"), trust_env=False)
        with httpx.Client(base_url=service.admin_url, verify=trusted, trust_env=False) as browser:
            login = log_in(browser, TOKEN)
            assert login.status_code == 303
            assert login.headers["Set-Cookie"].startswith("__Host-avion_media_operator=")
            assert browser.get("/console").status_code == 200
        assert json.loads(service.run_cli("tree", "--json").stdout)["name"] == "avion-media"
        _replaces_its_certificate(service, authority, trusted, path)
        assert json.loads(service.run_cli("tree", "--json").stdout)["name"] == "avion-media"


def _replaces_its_certificate(service: Service, authority: trustme.CA, trusted: ssl.SSLContext, path: Path) -> None:
    before = {url: serial_at(url, trusted) for url in (service.admin_url, service.http_url)}
    path.unlink()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    for url, serial in before.items():
        changed = partial(_has_another, url, trusted, serial)
        eventually(changed, "the new certificate to be shown")


def _has_another(url: str, trusted: ssl.SSLContext, serial: str) -> bool:
    return serial_at(url, trusted) != serial
