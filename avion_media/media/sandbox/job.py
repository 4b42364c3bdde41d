"""One task in the sandbox, as seen from Trio: pipe, channel, end and result. What a child returns is hostile."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import trio

from avion_media.common.errors import DecoderKilled, Dependency, Reason, Rejected, Unavailable
from avion_media.common.kernel import signal_name
from avion_media.media.sandbox import JobOutcome, JobReport, SandboxJobFailed
from avion_media.media.sandbox.wire import MAX_FILES, MAX_MESSAGE_BYTES, Exit, JobRequest, pack, with_fds

Observer = Callable[[JobReport], None]

_SEND_S: Final = 5.0  # the fork server only ever forks and reaps
_REAP_S: Final = 5.0  # SIGKILL to wait(): longer only for a process stuck in the kernel
_DEADLINE_SLACK_S: Final = 5.0  # the fork server enforces the deadline; after this extra time it must be stuck itself
_CHUNK_BYTES: Final = 64 << 10
_OF_A_LIMIT: Final = frozenset({signal.SIGXCPU, signal.SIGXFSZ})
_MAX_DETAIL: Final = 500


class Job:
    """Call ``send``, then ``answer``, and always ``aclose``."""

    def __init__(self, task: JobRequest, fork_server: trio.Process, observer: Observer | None) -> None:
        self._task = task
        self._observer = observer
        self._answer = bytearray()
        self._fork_server = fork_server
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = trio.socket.from_stdlib_socket(ours)
        self._pipe: trio.lowlevel.FdStream | None = None
        self._exit: Exit | None = None

    async def send(self, control: trio.socket.SocketType, files: Sequence[int]) -> None:
        """Send the task and copies of ``files`` to the fork server. A cancel leaves nothing sent."""
        if len(files) > MAX_FILES:
            raise ValueError(f"{len(files)} files, but at most {MAX_FILES} fit a message")
        message = pack(self._task)
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._pipe = trio.lowlevel.FdStream(reader)
            with os.fdopen(writer, "wb"), trio.fail_after(_SEND_S):
                await control.sendmsg([message], with_fds([self._theirs.fileno(), writer, *files]))
        except (OSError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise Unavailable(Dependency.SANDBOX, f"the fork server takes no task: {error!r}") from error
        finally:
            self._theirs.close()

    async def answer(self, max_bytes: int) -> Any:
        """Return the result of the function, or raise its error. It is killed if it writes more than ``max_bytes``."""
        assert self._pipe is not None
        with trio.move_on_after(self._task.limits.wall_s + _DEADLINE_SLACK_S):
            while len(self._answer) <= max_bytes and (chunk := await self._pipe.receive_some(_CHUNK_BYTES)):
                self._answer += chunk
            if len(self._answer) > max_bytes:
                self._kill()
            await self._receive_exit()
        end = self._exit
        if end is None:
            self._fork_server.kill()  # it may hang, and its children die with it; `Sandbox.maintain` notices
            raise DecoderKilled("the fork server is gone, and the job with it")
        if end.error:
            raise Unavailable(Dependency.SANDBOX, end.error)
        outcome = JobOutcome.DONE
        try:
            if len(self._answer) > max_bytes:
                raise Rejected(Reason.DECODER_LIMIT, "too much output")
            self._check(end)
            return _read_answer(bytes(self._answer))
        except Exception as error:
            outcome = _outcome_of(error, end)
            raise
        finally:
            if self._observer is not None:
                self._observer(JobReport(self._task.name, outcome, end))

    async def aclose(self) -> None:
        """Kill the child if it still runs, and wait until it is reaped."""
        self._theirs.close()
        try:
            if self._exit is None:
                self._kill()
                with trio.move_on_after(_REAP_S, shield=True) as reaping:  # bounded by _REAP_S
                    await self._receive_exit()
                if reaping.cancelled_caught:
                    self._fork_server.kill()
        finally:
            self._channel.close()
            if self._pipe is not None:
                self._pipe.close()

    async def _receive_exit(self) -> None:
        with suppress(OSError):  # a reset is like a normal end
            if data := await self._channel.recv(MAX_MESSAGE_BYTES):
                self._exit = Exit(**json.loads(data))

    def _kill(self) -> None:
        """Shut our side, which is the order to kill. It works even if the task has not reached the fork server yet."""
        # An error means that the fork server has closed its side: the child is reaped already, or dies with it.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def _check(self, end: Exit) -> None:
        limits = self._task.limits
        if end.timed_out:
            raise Rejected(Reason.DECODER_LIMIT, f"ran longer than {limits.wall_s} s")
        if not end.signal:
            return
        # The kernel's two clocks differ by some ticks.
        if end.signal in _OF_A_LIMIT or (end.signal == signal.SIGKILL and end.cpu_s >= 0.9 * limits.cpu_s):
            raise Rejected(Reason.DECODER_LIMIT, f"killed by {signal_name(end.signal)} after {end.cpu_s:.1f} s of CPU")
        if end.signal == signal.SIGKILL:
            # Killed by the kernel's OOM killer, which says nothing about the file. Retry, perhaps elsewhere.
            raise DecoderKilled(f"{self._task.name} was killed from outside (out of memory?)")
        raise Rejected(Reason.DECODER_CRASHED, f"{self._task.name} was killed by {signal_name(end.signal)}")


def _read_answer(data: bytes) -> Any:
    try:
        ((kind, value),) = json.loads(data).items()
    except (ValueError, AttributeError, RecursionError):
        raise Rejected(Reason.DECODER_CRASHED, "ended without an answer") from None
    if kind == "done":
        return value
    if kind == "limit":
        raise Rejected(Reason.DECODER_LIMIT, "out of memory")
    if kind == "rejected":
        with suppress(ValueError, TypeError):
            reason, detail = value
            raise Rejected(Reason(reason), str(detail)[:_MAX_DETAIL])
        raise Rejected(Reason.DECODER_CRASHED, "ended with an answer that is none")
    raise SandboxJobFailed(str(value))


def _outcome_of(error: Exception, end: Exit) -> JobOutcome:
    if isinstance(error, Unavailable) and end.signal == signal.SIGKILL:
        return JobOutcome.KILLED
    if not isinstance(error, Rejected):
        return JobOutcome.FAILED
    by_reason = {Reason.DECODER_LIMIT: JobOutcome.LIMIT, Reason.DECODER_CRASHED: JobOutcome.CRASHED}
    return by_reason.get(error.reason, JobOutcome.REJECTED)
