"""TLS of one connection, without I/O: the connection reads and writes the socket itself, as without TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress

import trio

_READ_BYTES = 64 << 10
_PIECE_BYTES = 256 << 10  # of a response, encrypted at once: a window of 4 MiB is not there a second time


class Tls:
    """The server's side. `ssl.SSLError` is an OSError: the connection ends as if the client had reset it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.is_ended = False
        """Whether the client has ended its output."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self, stream: trio.SocketStream) -> None:
        """Do the handshake. The caller has the deadline. Raises OSError or trio.BrokenResourceError if it fails."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await stream.send_all(self._outgoing.read())
            except ssl.SSLError:
                await stream.send_all(self._outgoing.read())  # the alert
                raise
            else:
                await stream.send_all(self._outgoing.read())
                return
            data = await stream.receive_some(_READ_BYTES)
            if not data:
                raise trio.BrokenResourceError("the client has left within the handshake")
            self._incoming.write(data)

    def decrypted(self, data: bytes) -> bytes:
        """Return what is whole with these bytes of the client. Raises `ssl.SSLError`."""
        self._incoming.write(data)
        pieces = []
        with suppress(ssl.SSLWantReadError):
            while piece := self._tls.read(_READ_BYTES):
                pieces.append(piece)
            self.is_ended = True
        return b"".join(pieces)

    def encrypted(self, pieces: Sequence[bytes | bytearray | memoryview]) -> Iterator[bytes]:
        """Yield the bytes for the client, to be sent one after another."""
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[self._tls.write(left[:_PIECE_BYTES]) :]
                if self._outgoing.pending >= _PIECE_BYTES:
                    yield self._outgoing.read()
        if self._outgoing.pending:
            yield self._outgoing.read()

    def ending(self) -> bytes:
        """Return the end of our output (RFC 8446, 6.1). The client's own is not awaited."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()
