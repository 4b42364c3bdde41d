"""Real servers for the tests: Redis, Valkey, a Cluster, Sentinels, and a proxy that fails.

Each is a context manager that starts on free ports in a directory of its own and leaves nothing behind: processes die
with their parent (even by SIGKILL), and a janitor process removes the directory.
"""

from .cluster import RedisCluster, redis_cluster
from .process import ServiceFailed, free_port
from .proxy import Proxy, open_proxy
from .redis import RedisServer, redis_server
from .sentinel import MASTER, Sentinel, Watched, watched_redis

__all__ = [
    "MASTER",
    "Proxy",
    "RedisCluster",
    "RedisServer",
    "Sentinel",
    "ServiceFailed",
    "Watched",
    "free_port",
    "open_proxy",
    "redis_cluster",
    "redis_server",
    "watched_redis",
]
