"""Quick acknowledgements on the connections of botocore; `trio_s3.acknowledge_at_once` says why."""

from __future__ import annotations

from typing import Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPConnectionPool, AWSHTTPSConnection, AWSHTTPSConnectionPool
from botocore.httpsession import URLLib3Session

from trio_s3 import acknowledge_at_once


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
