"""What is known to end hypercorn's server by one client: here it ends that client's connection, and nobody else's."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import h2.config
import h2.connection
import httpx
import pytest
import redis

from tests.chaos.groups import incarnations
from tests.chaos.usage import tree_of
from tests.conftest import S3Bucket
from tests.service.harness import Service, running, service_environment

_ROUNDS = 5
_SHORT_CONNECTIONS = 150  # more than the admin port may have at once


@pytest.fixture(scope="module")
def service(redis_of_process: str, redis_client: redis.Redis, bucket: S3Bucket) -> Iterator[Service]:
    """The real service."""
    environment = service_environment(redis_of_process, bucket.address.endpoint_url, bucket.bucket)
    with running(environment, roles="http") as service:
        yield service


def h2_by_prior_knowledge() -> list[bytes]:
    """A request over HTTP/2 whose body goes on after its answer."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    return [connection.data_to_send(), *_request_with_a_late_body(connection, 1)]


def h2_by_upgrade() -> list[bytes]:
    """The same behind an upgrade to h2c inside HTTP/1.1."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    settings = connection.initiate_upgrade_connection() or b""
    upgrade = b"GET /media/none HTTP/1.1\r\nHost: origin\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    upgrade += b"Upgrade: h2c\r\nHTTP2-Settings: " + settings + b"\r\n\r\n"
    return [upgrade, connection.data_to_send(), *_request_with_a_late_body(connection, 3)]


def _request_with_a_late_body(connection: h2.connection.H2Connection, stream_id: int) -> list[bytes]:
    connection.send_headers(stream_id, request_head(b"POST"))
    pieces = [connection.data_to_send()]
    for _ in range(3):
        connection.send_data(stream_id, b"x" * 1000)
        pieces.append(connection.data_to_send())
    return pieces


def unfinished_body() -> list[bytes]:
    """HTTP/1.1 whose answer comes before its body has ended."""
    return [b"POST /media/none HTTP/1.1\r\nHost: origin\r\nContent-Length: 1000000\r\n\r\n", b"x" * 1000, b"x" * 1000]


def broken_chunks() -> list[bytes]:
    """A body that is none."""
    return [b"POST /media/none HTTP/1.1\r\nHost: origin\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"]


def request_head(method: bytes) -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":path", b"/media/none"), (b":scheme", b"http"), (b":authority", b"origin")]


@pytest.mark.parametrize("attack", [h2_by_prior_knowledge, h2_by_upgrade, unfinished_body, broken_chunks])
@pytest.mark.parametrize("port", ["origin", "admin"])
def test_one_client_cannot_end_the_server(service: Service, attack: object, port: str) -> None:
    assert callable(attack)
    url = service.http_url if port == "origin" else service.admin_url
    before = incarnations(tree_of(service))
    with httpx.Client(base_url=url, trust_env=False) as other:
        assert other.get("/media/none").status_code == 404
        own_connection = _local_port(other)
        for _ in range(_ROUNDS):
            send_and_leave(url, attack())
            assert other.get("/media/none").status_code == 404
        assert _local_port(other) == own_connection, "the other connection was cut"
    assert incarnations(tree_of(service)) == before
    assert service.process.poll() is None


def test_closed_connections_are_not_counted(service: Service) -> None:
    """Hypercorn alone would keep each for its keep-alive time, and refuse the next ones meanwhile."""
    for _ in range(_SHORT_CONNECTIONS):
        assert httpx.get(f"{service.admin_url}/livez", trust_env=False, verify=False, timeout=5).status_code == 200


def test_nothing_can_be_killed_unless_it_is_enabled(service: Service) -> None:
    before = incarnations(tree_of(service))
    answer = httpx.post(f"{service.admin_url}/chaos/kill", params={"path": "service"}, trust_env=False, timeout=5)
    assert answer.status_code == 404
    assert incarnations(tree_of(service)) == before


def send_and_leave(url: str, pieces: list[bytes]) -> None:
    """Send piece by piece, each time looking what comes for a moment, and close."""
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
    """Of the connection that the client goes on using."""
    response = client.get("/media/none")
    stream = response.extensions["network_stream"]
    port: int = stream.get_extra_info("client_addr")[1]
    return port
