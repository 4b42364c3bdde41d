"""A stranger's web server: a few files, and how often each was asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RemoteServer:
    """Serves ``files`` (path: body). While `hold` is not set, answers wait."""

    def __init__(self, port: int, files: Mapping[str, bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files = dict(files)
        self.asked: Counter[str] = Counter()
        self.hold = threading.Event()
        self.hold.set()


@contextmanager
def remote_server(files: Mapping[str, bytes]) -> Iterator[RemoteServer]:
    """The server, on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            remote.asked[self.path] += 1
            remote.hold.wait(30)
            body = remote.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    remote = RemoteServer(server.server_address[1], files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield remote
    finally:
        remote.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
