"""HAProxy in front of an origin, with the configuration that we give to operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.services.configuration import configured
from tests.services.process import accepts_connections, free_port, require, running, working_directory


@contextmanager
def haproxy(origin_port: int) -> Iterator[str]:
    """Start a cache and yield its URL. Raises ServiceFailed."""
    program = require("haproxy", "haproxy")
    with working_directory("haproxy") as directory:
        port = free_port()
        changes = {
            "maxconn 20000": "maxconn 200",
            "total-max-size 1024": "total-max-size 16",
            "bind :80": f"bind 127.0.0.1:{port}",
            "server origin 127.0.0.1:8080": f"server origin 127.0.0.1:{origin_port}",
        }
        configuration = directory / "haproxy.cfg"
        configuration.write_text(configured("cdn/haproxy.cfg", changes))
        with running([program, "-db", "-f", configuration], directory / "haproxy.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"http://127.0.0.1:{port}"
