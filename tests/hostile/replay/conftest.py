"""The whole service, as the contract's own tests run it."""

from tests.service.conftest import bucket, redis_client, service, settings

__all__ = ["bucket", "redis_client", "service", "settings"]
