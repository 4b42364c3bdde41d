"""Varnish in front of an origin, with the configurations that we give to operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.configuration import configured
from tests.services.process import accepts_connections, free_port, require, running, working_directory

COMPOSE_ORIGIN = "10.231.80.2"


@contextmanager
def varnish(origin_port: int, *, fresh_s: int = 86400) -> Iterator[str]:
    """Start a cache and yield its URL; what it has is fresh for ``fresh_s``. Raises ServiceFailed."""
    with _varnish(configured("cdn/origin.vcl", {'.port = "8080";': f'.port = "{origin_port}";'}), fresh_s) as url:
        yield url


@contextmanager
def compose_varnish(origin_port: int, *, fresh_s: int = 86400) -> Iterator[str]:
    """The same as the compose file has it: nobody but the service may purge (here it has another address)."""
    changes = {
        f'.host = "{COMPOSE_ORIGIN}";': '.host = "127.0.0.1";',
        '.port = "8080";': f'.port = "{origin_port}";',
        f'    "{COMPOSE_ORIGIN}";': '    "127.0.0.1";',
    }
    with _varnish(configured("compose/origin.vcl", changes), fresh_s) as url:
        yield url


@contextmanager
def _varnish(origin: str, fresh_s: int) -> Iterator[str]:
    program = require("varnishd", "varnish")
    with working_directory("varnish") as directory:
        directory.chmod(0o755)  # its worker runs as another user
        recipe = directory / "varnish.vcl"
        recipe.write_text(configured("cdn/varnish.vcl", {"ttl = 1d;": f"ttl = {fresh_s}s;"}))
        (directory / "origin.vcl").write_text(origin)
        port = free_port()
        command: list[str | Path] = [
            program, "-F", "-f", recipe, "-a", f"127.0.0.1:{port}", "-n", directory / "work", "-s", "malloc,16m",
            "-T", "none",
        ]  # fmt: skip
        with running(command, directory / "varnish.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"http://127.0.0.1:{port}"
