"""A handler's task and what wakes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import trio
import trio.testing

from trio_grpc.context import CallContext, Peer
from trio_grpc.hooks import Hooks
from trio_grpc.limits import GrpcLimits
from trio_grpc.protocol import Protocol
from trio_grpc.running import Method, RunningCall, ServerContext
from trio_grpc.status import RpcError
from trio_grpc.wire_format import Message


class _FullClient:
    """A client that takes no response until told."""

    def __init__(self) -> None:
        self.has_sent = trio.Event()
        self.pending = 1 << 20
        self.ended = False

    def message_taken(self, stream_id: int, message: Message) -> None:
        pass

    def want_message(self, stream_id: int) -> None:
        pass

    def is_open(self, stream_id: int) -> bool:
        return not self.ended

    def pending_bytes(self, stream_id: int) -> int:
        return self.pending

    def send_message(self, stream_id: int, frame: bytes) -> None:
        self.has_sent.set()

    def send_end(self, stream_id: int, error: RpcError | None, trailing: object) -> None:
        assert error is None
        self.ended = True


class _Text(str):
    def SerializeToString(self) -> bytes:
        return self.encode()


async def test_a_task_that_reads_and_one_that_waits_to_send_are_both_woken() -> None:
    client = _FullClient()
    heard: list[str] = []
    all_heard = trio.Event()

    async def read(requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            heard.append(request)
        all_heard.set()

    async with trio.open_nursery() as nursery:

        async def chat(requests: AsyncIterator[Any], _call: CallContext) -> AsyncIterator[Any]:
            nursery.start_soon(read, requests)
            await trio.testing.wait_all_tasks_blocked()
            yield _Text("large")
            await all_heard.wait()

        method = Method(
            "/a.B/Chat", chat, bytes.decode, streams_requests=True, streams_responses=True, max_message_bytes=1000
        )
        call = CallContext(method.path, Peer("test"))
        running = RunningCall(
            call,
            method,
            1,
            cast("Protocol", client),
            ServerContext(GrpcLimits(), {}, Hooks(), lambda *_: None),
            lambda: None,
        )
        nursery.start_soon(running.run)
        await client.has_sent.wait()
        await trio.testing.wait_all_tasks_blocked()  # one waits for a request, one to send
        running.put(Message(b"hello"))
        await trio.testing.wait_all_tasks_blocked()
        assert heard == ["hello"]
        running.end_of_request()
        client.pending = 0
        running.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert client.ended
