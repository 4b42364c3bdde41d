"""The commands that a new user tries first: a demo beside another, a taken port, the tree in a pipe."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from avion_media.cli import dev
from avion_media.cli import tree as tree_command
from avion_media.cli.output import CommandFailed
from avion_media.config import AdminConfig, Bind, Config, GrpcConfig, HttpConfig


@pytest.fixture
def taken() -> Iterator[Config]:
    """A configuration whose origin has a port that another process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = Bind(host="127.0.0.1", port=listener.getsockname()[1])
        free = Bind(host="127.0.0.1", port=0)
        yield Config(grpc=GrpcConfig(bind=free), http=HttpConfig(bind=bind), admin=AdminConfig(bind=free))


def test_a_demo_takes_a_free_port_where_the_usual_one_is_taken(taken: Config) -> None:
    config, _, _ = dev._embedded_config(taken, free_ports=False, demo=True)
    assert config.http.bind.port != taken.http.bind.port


def test_without_a_demo_a_taken_port_is_one_sentence(taken: Config) -> None:
    with pytest.raises(CommandFailed) as failed:
        dev._embedded_config(taken, free_ports=False, demo=False)
    (line,) = failed.value.lines
    assert line.endswith("Address already in use; set AVION_MEDIA_HTTP__BIND to another address, or use --free-ports")


def test_a_port_that_the_user_has_set_is_not_replaced(taken: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVION_MEDIA_HTTP__BIND", str(taken.http.bind))
    with pytest.raises(CommandFailed):
        dev._embedded_config(taken, free_ports=False, demo=True)


def test_a_tree_in_a_pipe_is_printed_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(uptime_s: float, state: str) -> dict[str, Any]:
        child = {"name": "grpc", "state": state, "uptime_s": uptime_s, "children": []}
        return {"name": "avion-media", "state": "running", "uptime_s": uptime_s, "children": [child]}

    answers: Iterator[dict[str, Any] | CommandFailed] = iter(
        [
            node(1, "running"),
            node(2, "running"),
            CommandFailed("away"),
            node(3, "failed"),
            node(4, "failed"),
            node(5, "running"),
        ]
    )

    def fetch() -> dict[str, Any]:
        answer = next(answers)
        if isinstance(answer, CommandFailed):
            raise answer
        return answer

    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    changes = tree_command._changes(fetch)
    shown = [next(changes) for _ in range(3)]
    assert [each["children"][0]["state"] for each in shown] == ["running", "failed", "running"]
