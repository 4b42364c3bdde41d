"""The service in your tests: ``avion-media dev`` on free ports, as fixtures of pytest.

In ``conftest.py``: ``pytest_plugins = ["avion_media_client.testing"]``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from avion_media_client.client import MediaClient

_PRINTED = re.compile(r"origin (?P<origin>\S+)\s+gRPC (?P<address>\S+).*Redis (?P<redis_url>\S+)", re.DOTALL)
_HELP = "Set AVION_DEV_COMMAND to the command that starts the service: docs/how-to/test-against-it.md of avion-media"
_LIMIT_S = 120.0  # of the start, and of the stop; each takes some seconds


@dataclass(frozen=True, slots=True)
class Development:
    """A running service. ``address`` is that of gRPC, ``origin`` the start of the URLs of media."""

    address: str
    origin: str
    redis_url: str


@contextmanager
def development() -> Iterator[Development]:
    """Run the command in AVION_DEV_COMMAND, or ``avion-media dev``, on free ports, until the block ends.

    Raises `RuntimeError` if it does not start, or ends before it is ready.
    """
    command = [*shlex.split(os.environ.get("AVION_DEV_COMMAND", "avion-media dev")), "--free-ports"]
    try:
        starting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise RuntimeError(f"{command[0]} did not start: {error.strerror}. {_HELP}") from None
    with starting as process:
        limit = threading.Timer(_LIMIT_S, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            printed = ""
            while "Ctrl-C" not in printed and (line := process.stdout.readline()):
                printed += line
            found = _PRINTED.search(printed)
            if found is None:
                raise RuntimeError(f"{shlex.join(command)} ended before it was ready. {_HELP}\n{printed}")
            limit.cancel()
            yield Development(**found.groupdict())
        finally:
            limit.cancel()
            process.terminate()
            try:
                process.wait(_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def media_service() -> Iterator[Development]:
    """One service for all tests."""
    with development() as service:
        yield service


@pytest.fixture(scope="session")
def media_client(media_service: Development) -> Iterator[MediaClient]:
    """A client of `media_service`."""
    with MediaClient(media_service.address) as client:
        yield client
