"""Visitors that leave in the middle of a body, or never read it, hold nothing of the store."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually, running, service_environment
from tests.service.published import encode_id, original_key

LARGE_BYTES = 24 << 20  # more than the kernel's buffers hold
VISITORS = 12
THREADS = 2
KEPT = 3 * THREADS  # connections for later requests: of the reader of bodies, of quick requests, and of botocore


@pytest.fixture(scope="module")
def service(redis_of_module: str, bucket: S3Bucket) -> Iterator[Service]:
    """An origin with few connections to its store."""
    environment = service_environment(
        redis_of_module, bucket.address.endpoint_url, bucket.bucket, S3__THREADS=str(THREADS), HTTP__KEEP_ALIVE="1s"
    )
    with running(environment, roles="http") as service:
        yield service


@pytest.fixture(scope="module")
def path(bucket: S3Bucket) -> str:
    """Of a large object."""
    media_id = encode_id(datetime.now(UTC), 1, 3)
    bucket.client.put_object(Bucket=bucket.bucket, Key=original_key(media_id), Body=bytes(LARGE_BYTES))
    return f"/media/{media_id}"


def store_connections(service: Service) -> int:
    """How many connections the process has to the store now."""
    port = int(service.environment["AVION_MEDIA_S3__ENDPOINT_URL"].rpartition(":")[2])
    process = Path(f"/proc/{service.process.pid}")
    inodes = set()
    for each in (process / "fd").iterdir():
        try:
            inodes.add(os.readlink(each).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue  # closed meanwhile
    rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[3] == "01" and row[9] in inodes]
    return sum(int(row[2].rpartition(":")[2], 16) == port for row in established)


def visit(service: Service, path: str) -> socket.socket:
    """Ask for it, and read the answer's first bytes."""
    host, port = service.http_url.removeprefix("http://").split(":")
    visitor = socket.create_connection((host, int(port)), timeout=30)
    visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: origin\r\n\r\n".encode())
    assert visitor.recv(12) == b"HTTP/1.1 200"
    return visitor


@pytest.mark.parametrize("abruptly", [False, True])
def test_who_leaves_leaves_nothing_behind(service: Service, path: str, abruptly: bool) -> None:
    visitors = [visit(service, path) for _ in range(VISITORS)]
    for visitor in visitors:
        if abruptly:
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        visitor.close()
    assert len(service.get(path).content) == LARGE_BYTES
    eventually(lambda: store_connections(service) <= KEPT, "the store's connections to come back")


def test_who_does_not_read_holds_no_connection_of_the_store(service: Service, path: str) -> None:
    visitors = [visit(service, path) for _ in range(VISITORS)]
    try:
        eventually(lambda: store_connections(service) <= KEPT, "the store's connections to come back")
        assert len(service.get(path).content) == LARGE_BYTES
    finally:
        for visitor in visitors:
            visitor.close()


def test_an_idle_connection_stays_as_long_as_it_was_set(service: Service) -> None:
    host, port = service.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as visitor:  # the default is 75 s
        assert visitor.recv(1) == b""
