"""nginx in front of an origin, with the configuration that we give to operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.configuration import configured
from tests.services.process import (
    ServiceFailed,
    accepts_connections,
    free_port,
    require,
    running,
    working_directory,
)

_PURGE_MODULE = Path("/usr/lib/nginx/modules/ngx_http_cache_purge_module.so")
_MAIN = """
load_module {module};
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/cdn.conf;
}}
"""


@contextmanager
def nginx(origin_port: int, *, fresh_s: int = 86400) -> Iterator[str]:
    """Start a cache and yield its URL; what it has is fresh for ``fresh_s``. Raises ServiceFailed."""
    port, between = free_port(), free_port()
    changes = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:8080": f"server 127.0.0.1:{origin_port}",
        "/var/cache/nginx/avion-media": "{directory}/cache",
        "max-age=86400": f"max-age={fresh_s}",
        "proxy_pass http://127.0.0.1:8081": f"proxy_pass http://127.0.0.1:{between}",
        "listen 127.0.0.1:8081": f"listen 127.0.0.1:{between}",
    }
    with _nginx("cdn/nginx.conf", port, changes):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def accelerating_nginx(origin_port: int, store: str, signed_host: str = "") -> Iterator[str]:
    """Start an nginx that fetches from ``store`` (host and port) what the origin hands over. Raises ServiceFailed."""
    port = free_port()
    changes = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:8080": f"server 127.0.0.1:{origin_port}",
        "server 127.0.0.1:7480": f"server {store}",
        "Host 127.0.0.1:7480": f"Host {signed_host or store}",
    }
    with _nginx("cdn/accel.conf", port, changes):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def console_nginx(port: int, replicas: Sequence[str], certificate: Path, key: Path) -> Iterator[None]:
    """Start the proxy of the console on this port; ``X-Replica`` of a response is who sent it. Raises ServiceFailed."""
    changes = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "server 127.0.0.1:9090": f"server {replicas[0]}",
        "server 127.0.0.1:9091": f"server {replicas[1]}",
        "/etc/nginx/media-ops.crt": str(certificate),
        "/etc/nginx/media-ops.key": str(key),
        "proxy_buffering off;": "proxy_buffering off; add_header X-Replica $upstream_addr always;",
    }
    with _nginx("console/nginx.conf", port, changes):
        yield


@contextmanager
def _nginx(configuration: str, port: int, changes: dict[str, str]) -> Iterator[None]:
    program = require("nginx", "nginx")
    if not _PURGE_MODULE.exists():
        raise ServiceFailed(
            "nginx cannot purge: apt-get install libnginx-mod-http-cache-purge (or: ops/bootstrap test)"
        )
    with working_directory("nginx") as directory:
        changes = {old: new.replace("{directory}", str(directory)) for old, new in changes.items()}
        (directory / "cdn.conf").write_text(configured(configuration, changes))
        main = directory / "nginx.conf"
        main.write_text(_MAIN.format(module=_PURGE_MODULE, directory=directory))
        command: list[str | Path] = [program, "-c", main, "-p", directory, "-e", "stderr"]
        with running(command, directory / "nginx.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield
