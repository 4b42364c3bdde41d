"""Calls with file descriptors do the same to simulated sockets as to those of Linux: each test runs on both."""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress

import pytest
import trio

from trio_simulation.network.ends import CAPACITY_BYTES

from .test_sockets import Ask, ask, connected

__all__ = ["ask"]


def test_reading_and_writing(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, other):
            writing, reading = one.socket.fileno(), other.socket.fileno()
            assert os.write(writing, b"abc") == 3
            assert os.writev(writing, [b"de", b"fgh"]) == 5
            received = b""
            while len(received) < 8:
                await trio.lowlevel.wait_readable(reading)
                received += os.read(reading, 3)
            assert received == b"abcdefgh"
            with pytest.raises(BlockingIOError):
                os.read(reading, 3)
            os.write(writing, b"12345")
            await trio.lowlevel.wait_readable(other.socket)
            first, second = bytearray(2), bytearray(9)
            assert os.readv(reading, [first, second]) == 5
            assert first + second[:3] == b"12345"
            await one.aclose()
            await trio.lowlevel.wait_readable(reading)
            assert os.read(reading, 1) == b""

    ask(question)


def test_writing_waits_until_there_is_room(ask: Ask) -> None:
    async def question() -> None:
        async def write_until_full(fd: int) -> None:
            with suppress(BlockingIOError):
                while True:
                    os.write(fd, bytes(CAPACITY_BYTES))

        async with connected() as (one, other):
            await write_until_full(one.socket.fileno())
            with trio.move_on_after(0.1) as full:
                while True:
                    await trio.lowlevel.wait_writable(one.socket)
                    await write_until_full(one.socket.fileno())
            assert full.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_writable, one.socket.fileno())
                while nursery.child_tasks:
                    with trio.move_on_after(0.1):
                        await other.receive_some()

    ask(question)


def test_splicing_through_a_pipe(ask: Ask) -> None:
    async def question() -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            async with connected() as (one, other), connected() as (further, last):
                await one.send_all(b"passed on")
                await trio.lowlevel.wait_readable(other.socket)
                assert os.splice(other.socket.fileno(), writing, 100, flags=os.SPLICE_F_NONBLOCK) == 9
                assert os.splice(reading, further.socket.fileno(), 100, flags=os.SPLICE_F_NONBLOCK) == 9
                assert await last.receive_some() == b"passed on"
                with pytest.raises(BlockingIOError):
                    os.splice(other.socket.fileno(), writing, 100, flags=os.SPLICE_F_NONBLOCK)
        finally:
            os.close(reading)
            os.close(writing)

    ask(question)


def test_a_closed_socket(ask: Ask) -> None:
    async def question() -> None:
        async with connected() as (one, _other):
            number = one.socket.fileno()
            await one.aclose()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(number, b"x")

    ask(question)


def test_one_epoll_for_all_sockets(ask: Ask) -> None:
    async def question() -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        waiting = listener.socket
        with select.epoll() as epoll, socket.fromfd(waiting.fileno(), waiting.family, waiting.type) as plain:
            epoll.register(plain.fileno(), select.EPOLLIN)
            assert epoll.poll(0) == []
            with pytest.raises(BlockingIOError):
                plain.accept()
            client = await trio.open_tcp_stream(*waiting.getsockname()[:2])
            await trio.lowlevel.wait_readable(epoll.fileno())
            assert epoll.poll(0, 16) == [(plain.fileno(), select.EPOLLIN)]
            accepted, address = plain.accept()
            assert address == client.socket.getsockname()
            accepted.setblocking(False)
            epoll.unregister(plain.fileno())
            number = accepted.fileno()
            epoll.register(number, select.EPOLLIN)
            assert epoll.poll(0) == []
            await client.send_all(b"abc")
            await trio.lowlevel.wait_readable(epoll.fileno())
            assert epoll.poll(0) == [(number, select.EPOLLIN)]
            assert accepted.recv(10) == b"abc"
            assert epoll.poll(0) == []
            epoll.modify(number, select.EPOLLIN | select.EPOLLOUT)
            assert epoll.poll(0) == [(number, select.EPOLLOUT)]
            assert accepted.send(b"def") == 3
            assert await client.receive_some() == b"def"
            with pytest.raises(FileExistsError):
                epoll.register(number)
            epoll.modify(number, select.EPOLLIN)
            accepted.shutdown(socket.SHUT_WR)
            assert await client.receive_some() == b""
            await client.aclose()
            await trio.lowlevel.wait_readable(epoll.fileno())
            assert epoll.poll(0) == [(number, select.EPOLLIN | select.EPOLLHUP)]
            assert accepted.recv(10) == b""
            accepted.close()
            assert epoll.poll(0) == []
        await listener.aclose()

    ask(question)
