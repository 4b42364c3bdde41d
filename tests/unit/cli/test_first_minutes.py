"""The commands that a new user tries first: a demo beside another, a taken port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from avion_media.cli import dev
from avion_media.cli.problems import CommandFailed
from avion_media.common.settings import Bind
from avion_media.config import Config
from avion_media.servers.settings import AdminConfig, GrpcConfig, HttpConfig
from tests.service.commands import run_command
from tests.service.harness import service_environment
from tests.services.process import free_port


@pytest.fixture
def taken() -> Iterator[Config]:
    """A configuration whose origin has a port that another process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = Bind(host="127.0.0.1", port=listener.getsockname()[1])
        free = Bind(host="127.0.0.1", port=0)
        yield Config(grpc=GrpcConfig(bind=free), http=HttpConfig(bind=bind), admin=AdminConfig(bind=free))


def test_a_demo_takes_a_free_port_where_the_usual_one_is_taken(taken: Config) -> None:
    with ExitStack() as reserved:
        config, _, _ = dev._embedded_config(taken, reserved, free_ports=False, demo=True)
    assert config.http.bind.port != taken.http.bind.port


def test_two_demos_that_start_at_once_take_different_ports() -> None:
    free = Bind(host="127.0.0.1", port=0)
    usual = Bind(host="127.0.0.1", port=free_port())
    config = Config(grpc=GrpcConfig(bind=free), http=HttpConfig(bind=usual), admin=AdminConfig(bind=free))
    with ExitStack() as reserved:
        one, other = (dev._embedded_config(config, reserved, free_ports=False, demo=True)[0] for _ in range(2))
    assert one.http.bind == usual
    assert other.http.bind != usual


def test_a_free_port_is_given_to_nothing_else_before_its_server_listens(taken: Config) -> None:
    with ExitStack() as reserved:
        config, redis_port, store_port = dev._embedded_config(taken, reserved, free_ports=True, demo=False)
        ports = [redis_port, store_port, *(each.bind.port for each in (config.grpc, config.http, config.admin))]
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
            with socket.create_server(("127.0.0.1", port)):  # as our servers do, with SO_REUSEADDR
                socket.create_connection(("127.0.0.1", port)).close()
    assert len(set(ports)) == len(ports)


def test_without_a_demo_a_taken_port_is_one_sentence(taken: Config) -> None:
    with pytest.raises(CommandFailed) as failed, ExitStack() as reserved:
        dev._embedded_config(taken, reserved, free_ports=False, demo=False)
    (line,) = failed.value.lines
    assert line.endswith("Address already in use; set AVION_MEDIA_HTTP__BIND to another address, or use --free-ports")


def test_a_port_that_the_user_has_set_is_not_replaced(taken: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVION_MEDIA_HTTP__BIND", str(taken.http.bind))
    with pytest.raises(CommandFailed), ExitStack() as reserved:
        dev._embedded_config(taken, reserved, free_ports=False, demo=True)


@pytest.mark.parametrize("port", ["ADMIN", "HTTP"])
def test_a_service_whose_port_is_taken_ends_with_one_sentence(port: str, taken: Config) -> None:
    environment = service_environment("redis://127.0.0.1:1", "http://127.0.0.1:1", "none")
    environment[f"AVION_MEDIA_{port}__BIND"] = str(taken.http.bind)
    ended = run_command("serve", "--roles", "http", environment=environment)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    (line,) = (each for each in ended.stderr.splitlines() if not each.startswith("{"))
    assert line == f"avion-media: cannot listen on {taken.http.bind}: Address already in use"
