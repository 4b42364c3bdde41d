"""A store that waits for acknowledgements, as radosgw does without ``tcp_nodelay``, is not kept waiting."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.httpsession import URLLib3Session

from avion_media.backends.store.quick_acks import ask_for_quick_acks

_REQUESTS = 40  # of a new connection the kernel acknowledges the first dozen or so at once
_BODY = b"x" * 1000


@contextmanager
def nagles_store() -> Iterator[str]:
    """Sends the head and the body of each response apart, with Nagle's algorithm on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
                    while connection.recv(65536):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY))
                        connection.sendall(_BODY)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def seconds(session: URLLib3Session, url: str) -> float:
    """How long so many requests take, one after the other."""
    started = time.perf_counter()
    for _ in range(_REQUESTS):
        headers: Any = HeadersDict()
        request: Any = AWSPreparedRequest("GET", url, headers, None, True)
        assert session.send(request).content == _BODY
    session.close()
    return time.perf_counter() - started


def test_a_response_in_two_pieces_waits_for_no_delayed_acknowledgement() -> None:
    with nagles_store() as url:
        plain = seconds(URLLib3Session(), url)
        asking = URLLib3Session()
        ask_for_quick_acks(asking)
        quick = seconds(asking, url)

    assert plain > (_REQUESTS - 20) * 0.04  # or the kernel does not delay here, and this test shows nothing
    assert quick < plain / 3
