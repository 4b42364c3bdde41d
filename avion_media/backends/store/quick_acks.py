"""Quick acknowledgements on the connections to the store (``TCP_QUICKACK``).

A store that sends the head and the body of a small object separately, with Nagle's algorithm on, does not send the body
until the head is acknowledged. radosgw does so by default. The kernel acknowledges a single segment after 40 ms, unless
the reader sets this option. The kernel resets the option by itself, so it is set twice for each response: before the
wait for it, because sending the request has reset the option, and after its head.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import trio
from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.httpsession import URLLib3Session


def acknowledge_at_once(connection: socket.socket | trio.socket.SocketType) -> None:
    """Acknowledge what has come, and the next that comes."""
    with suppress(OSError):  # closed meanwhile, or another kernel: only latency depends on it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def ask_for_quick_acks(session: URLLib3Session) -> None:
    """Make new connections of the session acknowledge at once. Open connections stay as they are.

    botocore has no public way to name the classes of its connections (1.44). Both attributes are the same dictionary.
    """
    private: Any = session
    private._pool_classes_by_scheme.update(http=_Pool, https=_TLSPool)


def _ask(connection: AWSHTTPConnection | AWSHTTPSConnection) -> None:
    if connection.sock is not None:
        acknowledge_at_once(connection.sock)


class _Connection(AWSHTTPConnection):
    def getresponse(self) -> Any:
        _ask(self)
        response = super().getresponse()
        _ask(self)
        return response


class _TLSConnection(AWSHTTPSConnection):
    def getresponse(self) -> Any:
        _ask(self)
        response = super().getresponse()
        _ask(self)
        return response


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TLSConnection
