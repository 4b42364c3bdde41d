"""Requests that have crashed other HTTP servers: here they end their own connection, and no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
import redis

from tests.chaos.groups import incarnations
from tests.chaos.usage import tree_of
from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment

_ROUNDS = 5


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """The real service."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    with running(environment, roles="http") as service:
        yield service


def unfinished_body() -> list[bytes]:
    """Return a request whose response comes before its body has ended."""
    return [b"POST /media/none HTTP/1.1\r\nHost: origin\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1000, b"x" * 1000]


def broken_chunks() -> list[bytes]:
    """Return a request with an invalid chunked body."""
    return [b"POST /media/none HTTP/1.1\r\nHost: origin\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"]


@pytest.mark.parametrize("attack", [unfinished_body, broken_chunks])
@pytest.mark.parametrize("port", ["origin", "admin"])
def test_one_client_cannot_end_the_server(service: Service, attack: object, port: str) -> None:
    assert callable(attack)
    url = service.http_url if port == "origin" else service.admin_url
    before = incarnations(tree_of(service))
    with httpx.Client(base_url=url, trust_env=False, verify=False) as other:
        assert other.get("/media/none").status_code == 404
        own_connection = _local_port(other)
        for _ in range(_ROUNDS):
            send_and_leave(url, attack())
            assert other.get("/media/none").status_code == 404
        assert _local_port(other) == own_connection, "the other connection was cut"
    assert incarnations(tree_of(service)) == before
    assert service.process.poll() is None


def test_nothing_can_be_killed_unless_it_is_enabled(service: Service) -> None:
    before = incarnations(tree_of(service))
    answer = httpx.post(
        f"{service.admin_url}/chaos/kill", params={"path": "service"}, trust_env=False, verify=False, timeout=30
    )
    assert answer.status_code == 404
    assert incarnations(tree_of(service)) == before


def send_and_leave(url: str, pieces: list[bytes]) -> None:
    """Send the pieces one by one, read for a moment after each, and close."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=0.05) as client:
        for piece in pieces:
            try:
                client.sendall(piece)
                client.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionError:
                return


def _local_port(client: httpx.Client) -> int:
    """Return the local port of the connection that the client keeps."""
    response = client.get("/media/none")
    stream = response.extensions["network_stream"]
    port: int = stream.get_extra_info("client_addr")[1]
    return port
