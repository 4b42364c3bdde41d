"""moto's S3 as a process of its own, as `avion-media dev` uses it. It checks no signatures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.services.addresses import S3Address
from tests.services.process import accepts_connections, free_port, running, working_directory


@contextmanager
def moto() -> Iterator[S3Address]:
    """Start moto's server and yield its endpoint; any keys do. Raises ServiceFailed."""
    with working_directory("moto") as directory:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running([*command], directory / "moto.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield S3Address(f"http://127.0.0.1:{port}", "test", "test")
