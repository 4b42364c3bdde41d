"""Quick acknowledgements on the connections to the store (``TCP_QUICKACK``).

A store that sends the head and the body of a small object separately, with Nagle's algorithm on, does not send the body
until the head is acknowledged. radosgw does so by default. The kernel acknowledges a single segment after 40 ms, unless
the reader sets this option. The kernel resets the option by itself, so it is set twice for each response: before the
wait for it, because sending the request has reset the option, and after its head.
"""

from __future__ import annotations

import socket
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.httpsession import URLLib3Session

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


def ask_for_quick_acks(session: URLLib3Session) -> None:
    """Make new connections of the session acknowledge at once. Open connections stay as they are.

    botocore has no public way to name the classes of its connections (1.44). Both attributes are the same dictionary.
    """
    private: Any = session
    private._pool_classes_by_scheme.update(http=_Pool, https=_TLSPool)


def _ask(connection: AWSHTTPConnection | AWSHTTPSConnection) -> None:
    if _QUICKACK is not None and connection.sock is not None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


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
