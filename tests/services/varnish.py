"""Varnish in front of an origin, with the configuration that we give to operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.configuration import configured
from tests.services.process import accepts_connections, free_port, require, running, working_directory


@contextmanager
def varnish(origin_port: int, *, fresh_s: int = 86400) -> Iterator[str]:
    """Start a cache and yield its URL; what it has is fresh for ``fresh_s``. Raises ServiceFailed."""
    program = require("varnishd", "varnish")
    with working_directory("varnish") as directory:
        directory.chmod(0o755)  # its worker runs as another user
        recipe = directory / "origin.vcl"
        port_line = f'.port = "{origin_port}";'
        recipe.write_text(configured("varnish.vcl", {'.port = "8080";': port_line, "ttl = 1d;": f"ttl = {fresh_s}s;"}))
        port = free_port()
        command: list[str | Path] = [
            program, "-F", "-f", recipe, "-a", f"127.0.0.1:{port}", "-n", directory / "work", "-s", "malloc,16m",
            "-T", "none",
        ]  # fmt: skip
        with running(command, directory / "varnish.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"http://127.0.0.1:{port}"
