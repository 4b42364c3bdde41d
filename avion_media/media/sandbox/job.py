"""One task on its way through the sandbox, seen from Trio: its pipes, its channel, its end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import trio

from avion_media.domain.errors import DecoderKilled, Dependency, Unavailable
from avion_media.media.sandbox.types import JobReport
from avion_media.media.sandbox.wire import MAX_FILES, MAX_MESSAGE_BYTES, Exit, Task, pack, unpack_exit, with_fds

Observer = Callable[[JobReport], None]

_SEND_S: Final = 5.0  # the fork server only ever forks and reaps
_REAP_S: Final = 5.0  # SIGKILL to wait(): longer only for a process stuck in the kernel
_DEADLINE_SLACK_S: Final = 5.0  # the fork server enforces the deadline; so much later it must be stuck itself
_CHUNK_BYTES: Final = 64 << 10


class Job:
    """``send``, ``read_all``, ``finish``, and always ``aclose``. Afterwards stdout, stderr and flags are to be read."""

    def __init__(self, task: Task, fork_server: trio.Process) -> None:
        self.task = task
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.overflowed = False
        self.sufficed = False
        self._fork_server = fork_server
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = trio.socket.from_stdlib_socket(ours)
        self._pipes: list[trio.lowlevel.FdStream] = []
        self._exit: Exit | None = None
        self._sent = False

    async def send(self, control: trio.socket.SocketType, files: Sequence[int]) -> None:
        """Hand the task and copies of ``files`` to the fork server. A cancel leaves nothing sent."""
        if len(files) > MAX_FILES:
            raise ValueError(f"{len(files)} files, but at most {MAX_FILES} fit a message")
        message = pack(self.task)
        writers = []
        try:
            for _ in range(2 if self.task.is_program else 1):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                writers.append(writer)
                self._pipes.append(trio.lowlevel.FdStream(reader))
            with trio.fail_after(_SEND_S):
                await control.sendmsg([message], with_fds([self._theirs.fileno(), *writers, *files]))
            self._sent = True
        except (OSError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise Unavailable(Dependency.SANDBOX, f"the fork server takes no task: {error!r}") from error
        finally:
            self._theirs.close()
            for each in writers:
                os.close(each)

    async def read_all(
        self, max_stdout_bytes: int, max_stderr_bytes: int, enough: Callable[[bytearray], bool] | None
    ) -> None:
        """Read until the child closes its outputs; kills it when stdout is too long or ``enough``."""
        with trio.move_on_after(self.task.limits.wall_s + _DEADLINE_SLACK_S) as overtime:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_stdout, max_stdout_bytes, enough)
                for pipe in self._pipes[1:]:
                    nursery.start_soon(self._read_stderr, pipe, max_stderr_bytes)
        if overtime.cancelled_caught:
            self._give_up_on_fork_server()

    async def finish(self) -> Exit:
        """Wait until the child is reaped. `DecoderKilled` if the fork server is gone, `Unavailable` if no fork."""
        if self._exit is None:
            with trio.move_on_after(self.task.limits.wall_s + _DEADLINE_SLACK_S):
                await self._receive_exit()
        if self._exit is None:
            self._give_up_on_fork_server()
            raise DecoderKilled("the fork server is gone, and the job with it")
        if self._exit.error:
            raise Unavailable(Dependency.SANDBOX, self._exit.error)
        return self._exit

    async def aclose(self) -> None:
        """Leave no child: kill it if it still runs, and wait until it is reaped."""
        try:
            if self._sent and self._exit is None:
                self._kill()
                with trio.move_on_after(_REAP_S, shield=True) as patience:  # bounded by _REAP_S
                    await self._receive_exit()
                if patience.cancelled_caught:
                    self._give_up_on_fork_server()
        finally:
            self._theirs.close()
            self._channel.close()
            for pipe in self._pipes:
                pipe.close()

    async def _read_stdout(self, limit: int, enough: Callable[[bytearray], bool] | None) -> None:
        while chunk := await self._pipes[0].receive_some(_CHUNK_BYTES):
            self.stdout += chunk
            if len(self.stdout) > limit:
                self.overflowed = True
                del self.stdout[limit:]
                return self._kill()
            if enough is not None and enough(self.stdout):
                self.sufficed = True
                return self._kill()
        return None

    async def _read_stderr(self, pipe: trio.lowlevel.FdStream, limit: int) -> None:
        while chunk := await pipe.receive_some(_CHUNK_BYTES):
            self.stderr += chunk[: limit - len(self.stderr)]

    async def _receive_exit(self) -> None:
        data = b""
        try:
            data = await self._channel.recv(MAX_MESSAGE_BYTES)
        except OSError:
            pass  # reset: as gone as a plain end
        if data:
            self._exit = unpack_exit(data)

    def _kill(self) -> None:
        """Shutting our side is the order to kill; it holds even if the task has not reached the fork server yet."""
        try:
            self._channel.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the fork server has closed its side: the child is reaped already, or dies with it

    def _give_up_on_fork_server(self) -> None:
        """It has not answered in time. Its children die with it; `Sandbox.maintain` raises if it is the present one."""
        if self._fork_server.returncode is None:
            self._fork_server.kill()
