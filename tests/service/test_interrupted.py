"""Ctrl-C on a command that waits for somebody: it ends quietly, with the status that shells expect."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from tests.service.harness import service_environment

_START_S = 60.0
_END_S = 15.0
_MEDIUM = "0" * 64


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "arguments",
    [  # each of the ways in which commands connect
        ("queues",),
        ("delete", _MEDIUM),
        ("sweep",),
        ("doctor", "redis"),
        ("doctor", "store"),
        ("status", _MEDIUM),
        ("tree",),
    ],
    ids=" ".join,
)
def test_ctrl_c_is_quiet(arguments: tuple[str, ...]) -> None:
    """Whom the command asks accepts its connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(_START_S)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        environment = service_environment(
            f"redis://{address}", f"http://{address}", "none", GRPC__BIND=address, ADMIN__BIND=address
        )
        environment |= {"AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "any"}
        command = [sys.executable, "-m", "avion_media", *arguments]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                connection, _ = silent.accept()
                with connection:
                    process.send_signal(signal.SIGINT)
                    _, problem = process.communicate(timeout=_END_S)
            finally:
                process.kill()
    # The empty line is what ends the terminal's own ``^C``.
    assert (process.returncode, problem.strip()) == (130, "")
