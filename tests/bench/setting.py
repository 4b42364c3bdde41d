"""What all measurements share: a Redis, a bucket on a real Ceph, and whether this is only a smoke run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import S3Bucket, fresh_bucket
from tests.service import harness
from tests.services import ceph, redis_server, s3_address_from

NODE = Path(__file__).parent / "node"


@dataclass(frozen=True)
class Setting:
    """Where the services are. ``quick``: one tiny round of everything, whose figures mean nothing."""

    redis_url: str
    store: S3Bucket
    quick: bool

    def service_environment(self, **settings: str) -> dict[str, str]:
        """The environment of a service on these; its credentials are this process' own."""
        return harness.service_environment(
            self.redis_url, self.store.address.endpoint_url, self.store.bucket, **settings
        )

    def running(self, environment: dict[str, str], *, roles: str = "") -> AbstractContextManager[harness.Service]:
        """The service, in an interpreter of its own as in production; forked for a smoke run, which costs less."""
        run = harness.running if self.quick else harness.running_program
        return run(environment, roles=roles)


@contextmanager
def open_setting(*, quick: bool) -> Iterator[Setting]:
    """Start a Redis and a Ceph (or use the one that the tests share); both are stopped afterwards."""
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        nowhere = stack.enter_context(tempfile.TemporaryDirectory())
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_CONFIG_FILE", str(Path(nowhere) / "config"))
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(Path(nowhere) / "credentials"))
        for name in [each for each in os.environ if each.startswith("AVION_MEDIA_")]:
            environment.delenv(name)  # what is measured is the default configuration
        redis_url = stack.enter_context(redis_server())
        address = s3_address_from() or stack.enter_context(ceph())
        store = stack.enter_context(contextmanager(fresh_bucket)(address, environment))
        yield Setting(redis_url, store, quick)


def install_node_packages() -> None:
    """`npm ci` for what we are measured against, unless it is there."""
    if not (NODE / "node_modules" / "bullmq").is_dir():
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True, stdout=sys.stderr)
