"""How many open files the process needs: each connection is one, and clients must not take the last."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from avion_media.servers.settings import ServerSettings

C = TypeVar("C", bound=ServerSettings)

ADMIN_CONNECTIONS = 256
_REST = 192  # listeners, libraries, logs, fork servers, and the connections to Redis
_OF_STORE_CALL = 4  # a call's connection; a visitor's connection and the pipe that its body passes through
_OF_TASK = 8  # its copy of the file, the connection that it comes from, and what goes into the sandbox
_PORTS = ("grpc", "http")


def files_needed(config: ServerSettings, roles: Collection[str] = _PORTS) -> int:
    """Return how many open files the process can have with these settings."""
    return _files_of_service(config) + _connections(config, roles)


def fit_to_files(config: C, roles: Collection[str], files: float) -> C:
    """Return the settings with so few client connections that ``files`` are enough for all limits together.

    Otherwise clients that only connect would use up all files, and then also the admin port, calls to Redis and the
    store, and the sandbox would fail.
    """
    wanted = _connections(config, roles)
    share = (files - _files_of_service(config)) / max(1, wanted)
    if share >= 1:
        return config
    ports = {name: getattr(config, name) for name in _PORTS}
    lowered = {name: max(1, int(each.max_connections * share)) for name, each in ports.items()}
    update = {name: each.model_copy(update={"max_connections": lowered[name]}) for name, each in ports.items()}
    return config.model_copy(update=update)


def _connections(config: ServerSettings, roles: Collection[str]) -> int:
    return sum(getattr(config, name).max_connections for name in _PORTS if name in roles)


def _files_of_service(config: ServerSettings) -> int:
    tasks = config.tasks.slots + config.remote.slots
    return _REST + ADMIN_CONNECTIONS + _OF_STORE_CALL * config.s3.threads + _OF_TASK * tasks
