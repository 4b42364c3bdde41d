"""Three servers on the same objects, one client at a time, server CPU from /proc before and after."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.origin.reader import get_all, latencies_s, slow_clients
from tests.bench.processes import cpu_s, listener_pid, pss_bytes, rss_bytes, watching_memory
from tests.bench.setting import Setting
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually
from tests.service.published import encode_id, original_key, thumbnail_key
from tests.services.process import accepts_connections, free_port, require, working_directory
from tests.services.process import running as program

_MEBIBYTE = 1 << 20
_SMALL_BYTES = 40 << 10  # a thumbnail
_LARGE_BYTES = 32 * _MEBIBYTE
_HUGE_PARTS = 16  # of 64 MiB
_PART_BYTES = 64 * _MEBIBYTE
_SLOW = 500
# 1,500 requests per CPU second on the machine where Starlette and boto3 answer 516; and MB per CPU second.
_GOALS = (Goal(2.9, at_least=True), Goal(1.2, at_least=True))
_MEDIA_ID = encode_id(datetime.now(UTC), 2, 11)
_HUGE_ID = encode_id(datetime.now(UTC), 5, 12)
_NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    upstream store {{ server {store}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://store/{bucket}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""


def measure(setting: Setting) -> list[Figure]:
    """Requests and megabytes for a second of server CPU, memory over a large body, slow neighbours and their cost."""
    _fill(setting.store, quick=setting.quick)
    figures = []
    environment = setting.service_environment()
    with (
        setting.running(environment, roles="http") as service,
        _nginx(setting.store) as (nginx_port, nginx_pid),
        _afternoon(environment, setting.store.bucket) as (afternoon_port, afternoon_pid),
    ):
        our_port = int(service.http_url.rpartition(":")[2])
        ours = _Side(our_port, service.process.pid, f"/thumbnail/small/{_MEDIA_ID}", f"/media/{_MEDIA_ID}")
        small, large = f"/{thumbnail_key(_MEDIA_ID, 'small')}", f"/{original_key(_MEDIA_ID)}"
        figures += _compare("nginx", ours, _Side(nginx_port, nginx_pid, small, large), None, quick=setting.quick)
        afternoon = _Side(afternoon_port, afternoon_pid, small, large)
        figures += _compare("Starlette and boto3 on uvicorn", ours, afternoon, _GOALS, quick=setting.quick)
        figures.append(_growth(service, our_port, quick=setting.quick))
        figures += _neighbours(setting.store, our_port, ours, quick=setting.quick)
    return figures


class _Side:
    """One server: where it is, and where it has the two objects."""

    def __init__(self, port: int, pid: int, small: str, large: str) -> None:
        self.port = port
        self.pid = pid
        self.small = small
        self.large = large

    def requests_per_cpu_s(self, requests: int) -> float:
        """Of the small object, over 8 connections."""
        before = cpu_s(self.pid)
        get_all(self.port, self.small, requests, 8)
        return requests / max(0.01, cpu_s(self.pid) - before)

    def megabytes_per_cpu_s(self, requests: int) -> float:
        """Of the large object, over 2 connections."""
        before = cpu_s(self.pid)
        get_all(self.port, self.large, requests, 2)
        return requests * _LARGE_BYTES / 1e6 / max(0.01, cpu_s(self.pid) - before)


def _compare(name: str, ours: _Side, theirs: _Side, goals: tuple[Goal, Goal] | None, *, quick: bool) -> list[Figure]:
    rounds, small, large = (1, 80, 2) if quick else (5, 2400, 24)
    requests = Pairs.taken(rounds, lambda: ours.requests_per_cpu_s(small), lambda: theirs.requests_per_cpu_s(small))
    bytes_ = Pairs.taken(rounds, lambda: ours.megabytes_per_cpu_s(large), lambda: theirs.megabytes_per_cpu_s(large))
    small_goal, large_goal = goals or (None, None)
    return [
        requests.figure(f"origin, 40 KiB, vs {name}", "requests / CPU s", small_goal),
        bytes_.figure(f"origin, 32 MiB, vs {name}", "MB / CPU s", large_goal),
    ]


def _growth(service: Service, port: int, *, quick: bool) -> Figure:
    """How much the service's memory grows while it streams the huge object."""
    get_all(port, f"/media/{_MEDIA_ID}", 4, 2)  # what it takes at first is not growth
    before = pss_bytes(service.process.pid)
    with watching_memory(service.process.pid) as memory:
        get_all(port, f"/media/{_HUGE_ID}", 1, 1)
    size = "64 MiB" if quick else "1 GiB"
    grown = max(1.0, memory.peak_bytes - before)
    return Figure(f"origin, growth over a body of {size}", "MiB", ours=grown / _MEBIBYTE, goal=Goal(32, of="ours"))


def _neighbours(store: S3Bucket, port: int, ours: _Side, *, quick: bool) -> list[Figure]:
    """The latency of a fast client among slow ones (ours) and alone (theirs), and what the slow ones cost the store."""
    requests, slow = (20, 20) if quick else (400, _SLOW)
    gateway = listener_pid(int(store.address.endpoint_url.rpartition(":")[2]))
    medians, p95s = [], []
    resident = rss_bytes(gateway)
    with watching_memory(gateway, rss_bytes) as memory:
        for _ in range(1 if quick else 3):
            alone = latencies_s(port, ours.small, requests)
            with slow_clients(port, f"/media/{_MEDIA_ID}", slow):
                among = latencies_s(port, ours.small, requests)
            medians.append((statistics.median(among) * 1000, statistics.median(alone) * 1000))
            p95s.append((_p95(among) * 1000, _p95(alone) * 1000))
    grown = max(0.1, (memory.peak_bytes - resident) / _MEBIBYTE)
    return [
        Pairs(medians).figure(f"origin, a fast client among {slow} slow ones, vs alone", "ms", Goal(1.5)),
        Pairs(p95s).figure(f"origin, its p95 among {slow} slow ones, vs alone", "ms", Goal(50, of="ours")),
        Figure(f"origin, growth of the store's gateway by {slow} slow ones", "MiB", grown, goal=Goal(477, of="ours")),
    ]


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _fill(store: S3Bucket, *, quick: bool) -> None:
    client: Any = store.client
    client.put_object(Bucket=store.bucket, Key=thumbnail_key(_MEDIA_ID, "small"), Body=b"s" * _SMALL_BYTES)
    client.put_object(Bucket=store.bucket, Key=original_key(_MEDIA_ID), Body=b"l" * _LARGE_BYTES)
    _put_in_parts(client, store.bucket, original_key(_HUGE_ID), 1 if quick else _HUGE_PARTS)
    readable = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{store.bucket}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [readable]}  # nginx cannot sign
    client.put_bucket_policy(Bucket=store.bucket, Policy=json.dumps(policy))


def _put_in_parts(client: Any, bucket: str, key: str, parts: int) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    named = {"Bucket": bucket, "Key": key, "UploadId": upload}
    body = b"h" * _PART_BYTES
    done = [
        {"PartNumber": number, "ETag": client.upload_part(**named, PartNumber=number, Body=body)["ETag"]}
        for number in range(1, parts + 1)
    ]
    client.complete_multipart_upload(**named, MultipartUpload={"Parts": done})


@contextmanager
def _nginx(store: S3Bucket) -> Iterator[tuple[int, int]]:
    with working_directory("nginx") as directory:
        port = free_port()
        address = store.address.endpoint_url.removeprefix("http://")
        recipe = directory / "nginx.conf"
        recipe.write_text(_NGINX.format(directory=directory, port=port, store=address, bucket=store.bucket))
        directory.chmod(0o777)  # its worker runs as another user
        command: list[str | Path] = [require("nginx", "nginx"), "-c", recipe, "-p", directory, "-e", "stderr"]
        with program(command, directory / "nginx.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield port, server.pid


@contextmanager
def _afternoon(environment: dict[str, str], bucket: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.origin.afternoon", str(port), bucket]
    with subprocess.Popen(command, env=environment) as process:
        try:
            eventually(lambda: accepts_connections(port), "uvicorn to listen", 30)
            yield port, process.pid
        finally:
            process.terminate()
