"""The tutorial's program does what its page says."""

from __future__ import annotations

import os
import signal

import pytest
import trio
import trio.testing

from supervisors import Node, State, open_tree

from .tutorial import build, main


async def _ask(port: object, name: str) -> str:
    assert isinstance(port, int)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(name.encode(errors="surrogateescape"))
        return (await stream.receive_some(100)).decode()


async def test_it_counts_and_a_crash_of_the_store_restarts_the_server_on_its_port(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with trio.fail_after(20):
        async with open_tree(build()) as root:
            server: Node[object] = root.find("web")
            port = server.value
            assert await _ask(port, "tea") == "tea 1\n"
            assert await _ask(port, "tea") == "tea 2\n"
            assert (await _ask(port, "\udc80")) == ""  # not UTF-8: its task fails, and nothing else
            assert root.find("web").state is State.RUNNING
            root.find("store").kill()
            await server.wait_down()
            assert await server.wait_started() == port
            assert await _ask(port, "tea") == "tea 1\n"
            assert [node.snapshot().restarts for node in root.children] == [1, 1, 1]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["connections/task-3 failed", "saved 1"]


async def test_a_signal_stops_it_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    async def interrupt() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            await main()
    assert capsys.readouterr().out == "saved 0\n"
