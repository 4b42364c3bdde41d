"""A process that may open few files, and clients that only connect."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from avion_media.common.wire.avion import media_pb2 as wire
from tests.conftest import S3Bucket
from tests.service.harness import Service, json_lines, running, service_environment

FILES, FROM_EACH = 1024, 480
HTTP_BEGUN = b"GET /media/x HTTP/1.1\r\nHost: a\r\n"
HTTP2_BEGUN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def many_files() -> Iterator[None]:
    """So many files for this process as the test opens."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def half_open(source: str, url: str, begun: bytes) -> Iterator[socket.socket]:
    """Connections of one client that begins a request on each; without those that the service refuses."""
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(FROM_EACH):
        connection = socket.socket()
        connection.bind((source, 0))
        connection.connect((host, int(port)))
        try:
            connection.sendall(begun)
        except OSError:
            connection.close()
        else:
            yield connection


@pytest.mark.usefixtures("many_files")
def test_clients_that_only_connect_leave_files_for_everything_else(
    redis_url: str, bucket: S3Bucket, data_directory: Path
) -> None:
    picture = (data_directory / "jpeg-orientation-6.jpg").read_bytes()
    environment = service_environment(redis_url, bucket.address.endpoint_url, bucket.bucket, LOG__LEVEL="warning")
    with running(environment, prefix=("prlimit", f"--nofile={FILES // 2}:{FILES}", "--")) as service:
        (scarce,) = (line for line in json_lines(service.log()) if line["event"] == "files.scarce")
        assert scarce["limit"] == FILES < scarce["needed"]  # the soft limit was raised to the hard one
        held = [
            *half_open("127.0.0.2", service.http_url, HTTP_BEGUN),
            *half_open("127.0.0.3", service.http_url, HTTP_BEGUN),
            *half_open("127.0.0.4", service.grpc_address, HTTP2_BEGUN),
        ]
        try:
            for _ in range(3):
                assert service.ready()
                assert service.get("/media/01KB1V7E9G40Q3M8T5Z2X6C0RW").status_code == 404
                assert service.upload("cat.jpg", "image/jpeg", picture).state == wire.MediaStatus.READY
            assert len(open_files(service)) < FILES
            assert len(json_lines(service.log())) <= 5
        finally:
            for connection in held:
                connection.close()


def open_files(service: Service) -> list[Path]:
    return list(Path(f"/proc/{service.process.pid}/fd").iterdir())
