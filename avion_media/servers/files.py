"""How many open files the process needs: each connection is one, and clients must not take the last."""

from __future__ import annotations

from collections.abc import Collection

from avion_media.servers.settings import ServerSettings

ADMIN_CONNECTIONS = 256
_REST = 192  # listeners, libraries, logs, fork servers, and the connections to Redis
_OF_STORE_CALL = 4  # a call's connection; a visitor's connection and the pipe that its body passes through
_OF_TASK = 8  # its copy of the file, the connection that it comes from, and what goes into the sandbox


def files_needed(config: ServerSettings, roles: Collection[str]) -> int:
    """Return how many open files the process can have with these settings.

    With fewer, clients that only connect would use up all of them, and then also the admin port, calls to Redis and the
    store, and the sandbox would fail.
    """
    of_clients = {"grpc": config.grpc.max_connections, "http": config.http.max_connections}
    connections = sum(most for role, most in of_clients.items() if role in roles)
    tasks = config.tasks.slots + config.remote.slots
    return _REST + ADMIN_CONNECTIONS + connections + _OF_STORE_CALL * config.s3.threads + _OF_TASK * tasks
