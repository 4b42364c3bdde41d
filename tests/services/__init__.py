"""Real services for the tests: Redis, and a single-node Ceph that speaks S3.

Each is a context manager that starts on free ports in a directory of its own and leaves nothing behind: processes die
with their parent (even by SIGKILL), and a janitor process removes the directory. `python -m tests.services run -- CMD`
starts both, runs CMD with their addresses in `AVION_TEST_*` variables, and exits with its status.
"""

from tests.services.addresses import S3Address
from tests.services.ceph import ceph
from tests.services.process import ServiceFailed
from tests.services.redis import redis_server

__all__ = ["S3Address", "ServiceFailed", "ceph", "redis_server"]
