"""Ctrl-C on a command that waits for somebody: it ends quietly, with the status that shells expect."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable

import pytest

from tests.service.commands import start_service
from tests.service.harness import AVION_MEDIA, service_environment

_START_S = 60.0
_END_S = 15.0
_MEDIUM = "0" * 64


def start_interpreter(
    arguments: tuple[str, ...], environment: dict[str, str], out: int, err: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*AVION_MEDIA, *arguments], env=environment, stdout=out, stderr=err)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("arguments", "start"),
    [  # each of the ways in which commands connect
        (("queues",), start_interpreter),
        (("delete", _MEDIUM), start_service),
        (("sweep",), start_service),
        (("doctor", "redis"), start_service),
        (("doctor", "store"), start_service),
        (("status", _MEDIUM), start_service),
        (("tree",), start_service),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.__name__,
)
def test_ctrl_c_is_quiet(arguments: tuple[str, ...], start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Whom the command asks accepts its connection and never answers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        silent.settimeout(_START_S)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = service_environment(
            f"redis://{address}", f"http://{address}", "none", GRPC__BIND=address, ADMIN__BIND=address
        )
        environment |= {"AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "any"}
        process = start(arguments, environment, out.fileno(), err.fileno())
        try:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                process.wait(_END_S)
        finally:
            process.kill()
        err.seek(0)
        # The empty line is what ends the terminal's own ``^C``.
        assert (process.returncode, err.read().strip()) == (130, b"")
