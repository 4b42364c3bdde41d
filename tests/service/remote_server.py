"""A stranger's web server: a few files, and how often each was asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.services.http import serving


class RemoteServer:
    """Serves ``files`` (path: body). While `hold` is not set, answers wait.

    A path may have ``headers`` of its own, and a ``status`` other than 200. Its ETag, if it has one, is compared.
    """

    def __init__(self, host: str, port: int, files: Mapping[str, bytes]) -> None:
        self.url = f"http://{host}:{port}"
        self.files = dict(files)
        self.headers: dict[str, dict[str, str]] = {}
        self.status: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        self.requests: list[dict[str, str]] = []  # the headers of each request, and its path as ``:path``
        self.hold = threading.Event()
        self.hold.set()


@contextmanager
def remote_server(files: Mapping[str, bytes], host: str = "127.0.0.1") -> Iterator[RemoteServer]:
    """The server, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            remote.asked[self.path] += 1
            remote.requests.append({":path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            remote.hold.wait(30)
            headers = remote.headers.get(self.path, {})
            status = remote.status.get(self.path, 200 if self.path in remote.files else 404)
            if status == 200 and self.headers.get("If-None-Match") == headers.get("ETag", "none"):
                status = 304
            body = remote.files[self.path] if status == 200 else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, text in headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

    with serving(Handler, host) as port:
        remote = RemoteServer(host, port, files)
        try:
            yield remote
        finally:
            remote.hold.set()
