"""Passes bytes from one socket to another inside the kernel, by splice(2): nothing is copied into this process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

import trio

_PIECE_BYTES = 64 << 10  # a client must take so many within the timeout
_PIPE_BYTES = 1 << 20
_PACE_S = 0.25  # for the client to take that much


class Relay:
    """Bytes on their way to one client, in a pipe. `finish` it when no more are to follow. OSError: no pipe is left."""

    def __init__(self, client: trio.SocketStream) -> None:
        self.sent = 0
        """Bytes that the client's socket has accepted."""
        self._client = client.socket
        self.taken = 0
        """Bytes that have left the source."""
        self._output, self._input = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # more than this user may have: a smaller pipe takes more calls
            fcntl.fcntl(self._input, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def is_behind(self) -> bool:
        """Whether the client did not take the last bytes in time, or has left. Then pass nothing more."""
        return self.taken > self.sent

    def close(self) -> None:
        """Give the pipe back, with what is in it."""
        os.close(self._output)
        os.close(self._input)

    async def put(self, data: bytes) -> None:
        """Pass on bytes that were received already."""
        while data and not self.is_behind:
            count = os.write(self._input, data)
            data = data[count:]
            await self._keep_pace(count)

    async def pass_on(self, source: trio.socket.SocketType, max_bytes: int) -> int:
        """Pass on what has come. Return how many bytes left the source, 0 at its end.

        Raises BlockingIOError (nothing has come) and OSError (the source's connection broke), never for the client.
        """
        count = os.splice(source.fileno(), self._input, max_bytes, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        await self._keep_pace(count)
        return count

    async def finish(self, timeout_s: float) -> bool:
        """Send the rest. Return False if the client leaves, or takes longer than this for 64 KiB on average."""
        await self._drain(timeout_s * (1 + (self.taken - self.sent) / _PIECE_BYTES))
        return not self.is_behind

    async def _keep_pace(self, count: int) -> None:
        self.taken += count
        await self._drain(_PACE_S)

    async def _drain(self, within_s: float) -> None:
        with suppress(OSError, trio.ClosedResourceError), trio.move_on_after(within_s):
            while self.is_behind:
                try:
                    self.sent += os.splice(self._output, self._client.fileno(), _PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._client)
