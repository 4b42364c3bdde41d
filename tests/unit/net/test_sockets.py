"""Options of sockets."""

from __future__ import annotations

import socket

import trio

from avion_media.net import set_inherited


def test_connections_have_the_options_of_their_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        set_inherited(listener, 80.0)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            options = [socket.TCP_USER_TIMEOUT, socket.TCP_NODELAY, trio.socket.TCP_NOTSENT_LOWAT]
            assert [accepted.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [80_000, 1, 16 << 10]
