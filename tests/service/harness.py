"""The real service as a process of its own, and a client of another make: grpcio, httpx, redis-py, boto3."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import grpc
import httpx
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from avion_media.common.wire.avion import media_pb2 as wire
from tests.remote_ids import put_remote_key
from tests.service.commands import run_command, start_service
from tests.services.process import free_port
from trio_sandbox.tests.machine import confines_fully

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

AVION_MEDIA = (sys.executable, "-m", "avion_media")
START_S = 90.0
WAIT_S = 60.0
_POLL_S, _LONGEST_POLL_S = 0.05, 0.5
# Requests of tests say ``verify=False``: reading the certificates of all authorities is most of what a client costs.
_STORE_CALLS = re.compile(r'^rpc_client_call_duration_seconds_count\{.*rpc_method="S3/(\w+)".*\} (\S+)$', re.MULTILINE)
T = TypeVar("T")


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = WAIT_S) -> T:
    """Look until there is something; fail with ``what`` after ``timeout_s``."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < timeout_s:
        found = look()
        if found:
            return found
        time.sleep(min(max(_POLL_S, waited / 20), _LONGEST_POLL_S))  # a look costs CPU, often that of the service too
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


def put_upload(granted: wire.RequestMediaUploadResponse, body: bytes) -> httpx.Response:
    """PUT a body to the URL of an upload, as its client does."""
    headers = dict(granted.upload_headers)
    return httpx.put(granted.upload_url, content=body, headers=headers, trust_env=False, verify=False, timeout=60)


@dataclass
class Service:
    """One running process of the service."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    grpc_address: str
    http_url: str
    admin_url: str
    log_path: Path
    token: str = ""
    _channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.grpc_address)

    def close(self) -> None:
        """Close the client's channel."""
        self._channel.close()

    def log(self) -> str:
        """What it logged."""
        return self.log_path.read_text(errors="replace")

    def call(self, method: str, request: Any, answer: Any, timeout_s: float = 20.0) -> Any:
        """One unary call by grpcio, with the token if there is one."""
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else None
        return self._channel.unary_unary(
            f"/avion.MediaService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )(request, timeout=timeout_s, metadata=metadata)

    def request_upload(
        self, filename: str, content_type: str, size: int, sha256: bytes = b"", *, owner: str = ""
    ) -> wire.RequestMediaUploadResponse:
        """RequestMediaUpload."""
        request = wire.RequestMediaUploadRequest(
            filename=filename, content_type=content_type, size=size, sha256=sha256, owner=owner
        )
        granted: wire.RequestMediaUploadResponse = self.call(
            "RequestMediaUpload", request, wire.RequestMediaUploadResponse
        )
        return granted

    def put(self, granted: wire.RequestMediaUploadResponse, body: bytes) -> httpx.Response:
        """What the client does with the URL."""
        return put_upload(granted, body)

    def complete(self, media_id: str) -> None:
        """CompleteMediaUpload."""
        request = wire.CompleteMediaUploadRequest(media_id=media_id)
        self.call("CompleteMediaUpload", request, wire.CompleteMediaUploadResponse)

    def status(self, media_id: str) -> wire.MediaStatus:
        """GetMediaStatus."""
        request = wire.GetMediaStatusRequest(media_id=media_id)
        status: wire.MediaStatus = self.call("GetMediaStatus", request, wire.MediaStatus)
        return status

    def watch(self, media_id: str, timeout_s: float = WAIT_S) -> list[wire.MediaStatus]:
        """All of WatchMediaStatus, to its end."""
        return list(self.watching(media_id, timeout_s))

    def watching(self, media_id: str, timeout_s: float = WAIT_S) -> Iterator[wire.MediaStatus]:
        """WatchMediaStatus, one after the other."""
        stream: Iterator[wire.MediaStatus] = self._channel.unary_stream(
            "/avion.MediaService/WatchMediaStatus",
            request_serializer=wire.GetMediaStatusRequest.SerializeToString,
            response_deserializer=wire.MediaStatus.FromString,
        )(wire.GetMediaStatusRequest(media_id=media_id), timeout=timeout_s)
        return stream

    def cache(self, url: str) -> wire.CacheRemoteMediaResponse:
        """CacheRemoteMedia."""
        request = wire.CacheRemoteMediaRequest(remote_url=url)
        answer: wire.CacheRemoteMediaResponse = self.call("CacheRemoteMedia", request, wire.CacheRemoteMediaResponse)
        return answer

    def upload(self, filename: str, content_type: str, body: bytes) -> wire.MediaStatus:
        """The whole flow; returns the final status."""
        granted = self.request_upload(filename, content_type, len(body))
        response = self.put(granted, body)
        assert response.status_code == 200, response.text
        self.complete(granted.media_id)
        return self.watch(granted.media_id)[-1]

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET on the origin; header names write ``-`` as ``_``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(self.http_url + path, headers=named, trust_env=False, verify=False, timeout=30)

    def answered(self, status: str = "") -> int:
        """How many requests the origin answered, with a status that begins so."""
        lines = [
            line
            for line in self.metrics().splitlines()
            if line.startswith("http_server_request_duration_seconds_count{")
        ]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if f'status_code="{status}' in line)

    def store_calls(self) -> Counter[str]:
        """How many calls of the object store it has made, by operation."""
        calls = Counter[str]()
        for operation, count in _STORE_CALLS.findall(self.metrics()):
            calls[operation] += int(float(count))
        return calls

    def metrics(self) -> str:
        """The page that Prometheus reads."""
        return httpx.get(f"{self.admin_url}/metrics", trust_env=False, verify=False, timeout=30).text

    def ready(self) -> dict[str, Any] | None:
        """What ``/readyz`` says when it is 200."""
        try:
            response = httpx.get(f"{self.admin_url}/readyz", trust_env=False, verify=False, timeout=5)
        except httpx.HTTPError:
            return None
        return response.json() if response.status_code == 200 else None

    def readiness(self) -> dict[str, Any] | None:
        """What ``/readyz`` says, whether 200 or not; None while nobody listens."""
        try:
            report: dict[str, Any] = httpx.get(
                f"{self.admin_url}/readyz", trust_env=False, verify=False, timeout=5
            ).json()
        except httpx.HTTPError:
            return None
        return report

    def whole(self) -> dict[str, Any] | None:
        """The same once every node runs, whether Redis and the store have answered or not."""
        report = self.readiness()
        return report if report is not None and not report["down"] else None

    def run_cli(self, *arguments: str, timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
        """A command of the command line, with the service's own environment."""
        return run_command(*arguments, environment=self.environment, timeout_s=timeout_s)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def service_environment(redis_url: str, s3_url: str, bucket: str, **settings: str) -> dict[str, str]:
    """The environment of a service for tests; ``settings`` are ``SECTION__NAME`` without the prefix."""
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("GRPC", "HTTP", "ADMIN")}
    ours = {
        **{f"{name}__BIND": address for name, address in ports.items()},
        "REDIS__URL": redis_url,
        "S3__ENDPOINT_URL": s3_url,
        "S3__BUCKET": bucket,
        "DRAIN__SETTLE": "0",
        "DRAIN__GRACE": "5s",
        "LOG__FORMAT": "json",
        "TASKS__BACKOFF": "100ms",
        "SWEEP__RATE": "1000",
        "SANDBOX__REQUIRE": str(confines_fully()).lower(),
        **settings,
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AVION_MEDIA_", "OTEL_")) and not name.upper().endswith("_PROXY")
    }
    return inherited | {f"AVION_MEDIA_{name}": value for name, value in ours.items()}


def _url_of(port: str, environment: dict[str, str]) -> str:
    scheme = "https" if environment.get(f"AVION_MEDIA_{port}__TLS_CERT") else "http"
    return f"{scheme}://{environment[f'AVION_MEDIA_{port}__BIND']}"


@contextmanager
def running(
    environment: dict[str, str],
    *,
    roles: str = "",
    until: Callable[[Service], object] = Service.ready,
    prefix: Sequence[str] = (),
    program: Sequence[str] = (),
    first: str = "",
) -> Iterator[Service]:
    """`avion-media serve`, ready (or as far as ``until`` says); stopped by SIGTERM afterwards, killed if it stays.

    ``prefix`` is a command that becomes the service in the end; ``program`` stands for ``avion-media``. Without both it
    is forked from a process that has imported it, and ``first`` before: a module that changes it.
    """
    _make_remote_key(environment)
    with tempfile.TemporaryDirectory(prefix="avion-test-") as directory:
        log_path = Path(directory) / "log"
        with log_path.open("wb") as log:
            arguments = ("serve", *(("--roles", roles) if roles else ()))
            if prefix or program:
                command = [*prefix, *(program or AVION_MEDIA), *arguments]
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            else:
                process = start_service(arguments, environment, log.fileno(), log.fileno(), first=first)
        service = Service(
            process,
            environment,
            grpc_address=environment["AVION_MEDIA_GRPC__BIND"],
            http_url=_url_of("HTTP", environment),
            admin_url=_url_of("ADMIN", environment),
            log_path=log_path,
        )
        try:
            eventually(partial(_alive_and, until, service), "the service to be ready", START_S)
            yield service
        except BaseException:
            sys.stderr.write(_tail(service.log()))
            raise
        finally:
            service.close()
            try:
                service.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


running_program = partial(running, program=AVION_MEDIA)
"""The same in an interpreter of its own, as in production: for measurements."""


def _make_remote_key(environment: dict[str, str]) -> None:
    """Do what `avion-media init` does with the key of remote ids, if the store answers and has the bucket."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=environment["AVION_MEDIA_S3__ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID", "none"),
        aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY", "none"),
        config=BotoConfig(
            connect_timeout=2, read_timeout=2, retries={"max_attempts": 0}, s3={"addressing_style": "path"}
        ),
    )
    with closing(client), suppress(BotoCoreError, ClientError):
        put_remote_key(client, environment["AVION_MEDIA_S3__BUCKET"])


def _alive_and(until: Callable[[Service], object], service: Service) -> object:
    assert service.process.poll() is None, f"the service ended: {_tail(service.log())}"
    return until(service)


def _tail(log: str) -> str:
    return "\n".join(log.splitlines()[-60:]) + "\n"


def json_lines(log: str) -> list[dict[str, Any]]:
    """The log as dictionaries; other lines are left out."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]
