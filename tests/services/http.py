"""Small HTTP servers of tests, each a handler of the standard library in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Serve with this handler, and yield the port. Requests that hang at the end are left alone."""

    class Quiet(handler):  # type: ignore[misc,valid-type]
        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((host, port), Quiet)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
