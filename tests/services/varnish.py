"""Varnish in front of an origin: the CDN of the tests, which purges when it is asked to from this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import accepts_connections, free_port, require, running, working_directory

_VCL = """
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{port}"; }}
sub vcl_recv {{
    if (req.method == "PURGE") {{ return (purge); }}
}}
sub vcl_deliver {{
    set resp.http.X-Hits = obj.hits;
}}
"""


@contextmanager
def varnish(origin_port: int) -> Iterator[str]:
    """Start a cache and yield its URL. ``X-Hits`` tells how often an answer came from it. Raises ServiceFailed."""
    program = require("varnishd", "varnish")
    with working_directory("varnish") as directory:
        directory.chmod(0o755)  # its worker runs as another user
        recipe = directory / "origin.vcl"
        recipe.write_text(_VCL.format(port=origin_port))
        port = free_port()
        command: list[str | Path] = [
            program, "-F", "-f", recipe, "-a", f"127.0.0.1:{port}", "-n", directory / "work", "-s", "malloc,16m",
            "-T", "none",
        ]  # fmt: skip
        with running(command, directory / "varnish.log") as server:
            server.wait_until(lambda: accepts_connections(port), timeout_s=30)
            yield f"http://127.0.0.1:{port}"
