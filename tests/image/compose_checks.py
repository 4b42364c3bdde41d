"""The compose file, started as one by Docker's own front end: uploads, and the commands that the pages print.

Run by `make image`, after the build. podman takes the place of Docker's daemon. No registry can be reached here, so the
images of Redis and Varnish are made from Debian's packages. podman runs health checks by systemd, which is not here:
the test runs them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.image.checks import PODMAN, VERSION
from tests.ops.manifests import ROOT
from tests.service.harness import eventually
from tests.services.process import Program, free_port, working_directory

BASE = "localhost/debian:trixie"
COMPOSE = ROOT / "ops/compose"
# What the images of the registry have, as far as the compose file relies on it.
STAND_INS = {
    "docker.io/library/redis:8.2-alpine": f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server && install -d -o 999 -g 1000 /data
WORKDIR /data
VOLUME /data
""",
    "docker.io/library/varnish:7.7-alpine": f"""
FROM {BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends varnish gcc libc6-dev
USER varnish
CMD ["sh", "-c", "exec varnishd -F -a :$VARNISH_HTTP_PORT -s malloc,$VARNISH_SIZE -f /etc/varnish/default.vcl"]
""",
    f"docker.io/library/avion-media-store:{VERSION}": (COMPOSE / "store/Dockerfile")
    .read_text()
    .replace("FROM debian:trixie-slim", f"FROM {BASE}"),
}
# Free ports. podman's seccomp profile refuses a call that Ceph needs, and Docker allows low ports to all.
OVERRIDE = """
services:
  init: {{build: !reset null}}
  media: {{build: !reset null, ports: !override ["127.0.0.1:{grpc}:50051", "127.0.0.1:{admin}:9090"]}}
  store:
    build: !reset null
    ports: !override ["127.0.0.1:{store}:9000"]
    security_opt: !override ["no-new-privileges:true", "seccomp=unconfined"]
  cdn:
    ports: !override ["127.0.0.1:{cdn}:80"]
    sysctls: {{net.ipv4.ip_unprivileged_port_start: "0"}}
"""


class Host:
    """One host with the compose file: its ports, and commands in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("grpc", "admin", "store", "cdn")}
        self.socket = folder / "podman.sock"
        self.podman = (*PODMAN, "--network-config-dir", str(folder / "networks"))
        compose = folder / "ops/compose/compose.yaml"
        self.front_end = ("docker-compose", "-f", str(compose), "-f", str(folder / "override.yaml"))

    def run(
        self, *command: str | Path, environment: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command against this host's podman."""
        ours = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", **(environment or {})}
        return subprocess.run(
            command, cwd=self.folder, env=ours, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run the front end, and return what it printed. It must succeed."""
        done = self.run(*self.front_end, *arguments, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """The host, prepared as the page says, with everything started."""
    with working_directory("compose") as folder:
        host = Host(folder)
        (folder / "override.yaml").write_text(OVERRIDE.format(**host.ports))
        urls = [f"http://127.0.0.1:{host.ports[name]}" for name in ("cdn", "store")]
        shutil.copytree(ROOT / "ops", folder / "ops", ignore=shutil.ignore_patterns(".env", "access"))
        done = host.run(folder / "ops/compose/prepare", *urls)
        assert done.returncode == 0, done.stderr
        (folder / "token").write_text(done.stdout.rpartition(": ")[2])
        for image, dockerfile in STAND_INS.items():
            _build(host, image, dockerfile)
        host.run(*host.podman, "tag", f"localhost/avion-media:{VERSION}", f"docker.io/library/avion-media:{VERSION}")
        service = Program(
            [*host.podman, "system", "service", "--time", "0", f"unix://{host.socket}"], folder / "podman.log"
        )
        try:
            service.wait_until(host.socket.exists, timeout_s=30)
            yield host
        finally:
            with suppress(subprocess.TimeoutExpired):
                host.run(*host.front_end, "down", "--volumes")
            service.stop()


def _build(host: Host, image: str, dockerfile: str) -> None:
    """Build an image, unless it was built before."""
    if host.run(*host.podman, "image", "exists", image).returncode == 0:
        return
    path = host.folder / "Dockerfile"
    path.write_text(dockerfile)
    buildah = ("buildah", *PODMAN[1:5], "bud", "--pull=never", "--isolation", "chroot")
    limits = ("--network", "host", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")
    done = host.run(*buildah, *limits, "--file", path, "--tag", image, COMPOSE / "store", timeout_s=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_all_of_it_starts_serves_and_stops(host: Host, data_directory: Path) -> None:
    admin = f"http://127.0.0.1:{host.ports['admin']}"
    up = (*host.front_end, "up", "--no-build", "--pull", "never", "--detach")
    started = host.run(*up, "--no-deps", "redis", "store", "cdn")
    assert started.returncode == 0, started.stderr

    def are_healthy() -> bool:
        names = [f"avion-media-{name}-1" for name in ("redis", "store")]
        return all(host.run(*host.podman, "healthcheck", "run", name).returncode == 0 for name in names)

    eventually(are_healthy, "Redis and the store to be healthy", 200)
    eventually(lambda: host.run(*up).returncode == 0, "the rest to start", 100)
    eventually(lambda: _answers(f"{admin}/readyz"), "the service to be ready")

    client = {
        "AVION_MEDIA_CLIENT__ADDRESS": f"127.0.0.1:{host.ports['grpc']}",
        "AVION_MEDIA_CLIENT__TOKEN": (host.folder / "token").read_text().strip(),
    }
    avion_media = ROOT / ".venv/bin/avion-media"
    uploaded = host.run(avion_media, "upload", data_directory / "jpeg-gray.jpg", environment=client)
    assert uploaded.returncode == 0, uploaded.stdout + uploaded.stderr
    (path,) = re.findall(r"url +http://[^/]+(/media/\w+)", uploaded.stdout)
    assert _answers(f"http://127.0.0.1:{host.ports['cdn']}{path}")

    assert "avion-media-media-1" in host.compose("ps")
    assert "media_processing_queue" in host.compose("exec", "-T", "media", "avion-media", "queues")
    shown = host.compose(
        "exec", "-T", "redis", "sh", "-c", 'redis-cli -a "$REDIS_PASSWORD" --no-auth-warning INFO memory'
    )
    assert "used_memory:" in shown
    host.compose("stop", "media")
    assert (
        httpx.get(f"http://127.0.0.1:{host.ports['cdn']}{path}", trust_env=False, verify=False).status_code == 200
    )  # from its cache


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, trust_env=False, verify=False).status_code == 200
    return False
