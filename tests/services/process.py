"""Starting, watching and surely stopping programs: as the tests of trio_redis do it."""

from trio_redis.tests.servers.process import (
    Program,
    ServiceFailed,
    accepts_connections,
    free_port,
    require,
    run,
    running,
    working_directory,
)

__all__ = [
    "Program",
    "ServiceFailed",
    "accepts_connections",
    "free_port",
    "require",
    "run",
    "running",
    "working_directory",
]
