"""Real services for the tests: Redis, Valkey, a Cluster, Sentinels, a Ceph that speaks S3, moto's S3, Varnish, nginx,
HAProxy.

Each is a context manager that starts on free ports in a directory of its own and leaves nothing behind: processes die
with their parent (even by SIGKILL), and a janitor process removes the directory. `python -m tests.services run -- CMD`
starts a Ceph, runs CMD with its address in `AVION_TEST_S3_*`, and exits with CMD's status: so the processes of
pytest-xdist share one. A Redis starts in 50 ms and holds the service's fixed keys, so each process has its own.
"""

from tests.services.addresses import S3Address, s3_address_from
from tests.services.ceph import CephNode, ceph, ceph_node
from tests.services.haproxy import haproxy
from tests.services.moto import moto
from tests.services.nginx import accelerating_nginx, console_nginx, nginx
from tests.services.process import ServiceFailed
from tests.services.varnish import compose_varnish, varnish
from trio_redis.tests.servers import RedisCluster, RedisServer, redis_cluster, redis_server, watched_redis

__all__ = [
    "CephNode",
    "RedisCluster",
    "RedisServer",
    "S3Address",
    "ServiceFailed",
    "accelerating_nginx",
    "ceph",
    "ceph_node",
    "compose_varnish",
    "console_nginx",
    "haproxy",
    "moto",
    "nginx",
    "redis_cluster",
    "redis_server",
    "s3_address_from",
    "varnish",
    "watched_redis",
]
