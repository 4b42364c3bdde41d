"""``media_webhook_queue``: each event of ``media_events`` becomes one task per endpoint, which a worker POSTs to it.

=====================  ===============================================================================================
2xx                    the event is delivered
410                    the endpoint is stopped until its entry changes; its events are dropped meanwhile
any other response     retried with backoff, not before ``Retry-After``, for three days; then a dead letter. A redirect
or none                is such a response. After several failures in a row the whole endpoint pauses (`HostLimiter`),
                       so an endpoint that is down costs few requests, and its events wait in their order
=====================  ===============================================================================================

An endpoint is an untrusted server: it is dialled under the guard of remote media. Logs name it, and neither its URL
nor what is sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import trio

from avion_media.backends.queue import TaskQueue
from avion_media.backends.redis import Redis
from avion_media.backends.remote import HostLimiter, Poster
from avion_media.backends.settings import RemoteConfig
from avion_media.common.clock import now_s
from avion_media.common.errors import Deferred, Dependency, Reason, Rejected, Unavailable
from avion_media.common.records import JsonRecord
from avion_media.common.tasks import EnsureLease, Task, TaskHandler
from avion_media.common.telemetry import instruments
from avion_media.workers.endpoints import Endpoint
from guarded_fetch import AddressGuard, RemoteUrl
from trio_telemetry import Telemetry, get_logger

Endpoints = Mapping[str, Endpoint]
MAX_AGE_S: Final = 3 * 86_400.0
MAX_BACKOFF_S: Final = 3600.0
ENDPOINT_SLOTS: Final = 4
"""Requests to one endpoint at once, from all replicas: one that hangs takes no more slots from the others."""
_TIMEOUT_S = 20.0
_STOPPED_STATUS = 410
_ANY_NETWORK = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_log = get_logger()


@dataclass(frozen=True, slots=True)
class StoppedEndpoint:
    """An endpoint that has answered 410. ``entry``: the fingerprint of its entry; ``at``: Unix seconds."""

    entry: str
    at: float


STOPPED_ENDPOINT = JsonRecord(
    "stopped_endpoint", StoppedEndpoint, "media_webhook_stopped:{<endpoint>}", "workers of webhooks"
)


class Webhooks:
    """Sends events to endpoints, and remembers those that do not want any. Safe to use from many tasks."""

    def __init__(
        self,
        redis: Redis,
        endpoints: Callable[[], Endpoints],
        posters: Mapping[bool, Poster],
        hosts: HostLimiter,
        telemetry: Telemetry,
    ) -> None:
        """``posters``: by whether inner addresses are allowed."""
        self._redis = redis
        self._endpoints = endpoints
        self._posters = posters
        self._hosts = hosts
        self._telemetry = telemetry

    async def queue(self, queue: TaskQueue, event: Mapping[str, Any], published_at: float) -> None:
        """Queue one task for each endpoint that wants the event. It can be repeated for an hour."""
        for endpoint in self._endpoints().values():
            if not endpoint.wants(event):
                continue
            if await self._is_stopped(endpoint):
                self._count(endpoint.name, "dropped_stopped")
                continue
            fields = {"media_id": str(event["media_id"]), "endpoint": endpoint.name, "at": f"{published_at:.3f}"}
            fields["event"] = json.dumps(event, separators=(",", ":"))
            await queue.enqueue(fields, dedup_key=f"{endpoint.name}:{event['event_id']}", tenant=endpoint.name)

    async def drop_oldest(self, queue: TaskQueue, max_waiting: int) -> None:
        """Drop the oldest tasks of each endpoint beyond ``max_waiting``."""
        for endpoint in self._endpoints().values():
            while dropped := await queue.drop_oldest(endpoint.name, max_waiting):
                self._count(endpoint.name, "dropped_overflow", dropped)
                _log.warning("webhook.dropped", endpoint=endpoint.name, events=dropped)

    async def deliver(self, name: str, event: Mapping[str, Any], published_at: float) -> None:
        """Send an event to an endpoint. Raises `Unavailable` (ENDPOINT), or `Deferred` while the endpoint pauses."""
        endpoint = self._endpoints().get(name)
        if endpoint is None:
            outcome = "dropped_removed"
        elif not endpoint.may_have(event):
            outcome = "dropped_private"
        elif await self._is_stopped(endpoint):
            outcome = "dropped_stopped"
        else:
            outcome = await self._send(endpoint, event, published_at)
        self._count(name, outcome)

    async def _send(self, endpoint: Endpoint, event: Mapping[str, Any], published_at: float) -> str:
        deadline = trio.current_time() + _TIMEOUT_S
        # No host has a slash, so this is not a server of remote media.
        identity = RemoteUrl("https", f"webhook/{endpoint.name}", 443, "/")
        try:
            async with self._hosts.admitted(identity, deadline):
                status = await post_event(self._posters[endpoint.internal], endpoint, event, published_at)
        except Deferred:
            raise
        except Unavailable as error:
            if error.dependency is not Dependency.REMOTE:
                raise
            self._count(endpoint.name, "failed")
            _log.info("webhook.failed", endpoint=endpoint.name, error=error.detail)
            detail = f"endpoint {endpoint.name}: {error.detail}"
            raise Unavailable(Dependency.ENDPOINT, detail, error.retry_after_s) from None
        if status != _STOPPED_STATUS:
            return "delivered"
        stopped = STOPPED_ENDPOINT.write(StoppedEndpoint(endpoint.fingerprint, now_s()))
        await self._redis.execute("SET", _stopped_key(endpoint.name), stopped)
        _log.warning("webhook.stopped", endpoint=endpoint.name)
        return "gone"

    async def _is_stopped(self, endpoint: Endpoint) -> bool:
        key = _stopped_key(endpoint.name)
        found = await self._redis.execute("GET", key)
        stopped = STOPPED_ENDPOINT.read_or_skip(found, key) if found else None
        return stopped is not None and stopped.entry == endpoint.fingerprint

    def _count(self, endpoint: str, outcome: str, events: int = 1) -> None:
        self._telemetry.count(instruments.WEBHOOKS, events, webhook=endpoint, outcome=outcome)


class DeliverWebhook(TaskHandler):
    """See `TaskHandler`. An event can be delivered twice, with the same id."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def run(self, task: Task, _ensure_lease: EnsureLease) -> None:
        """Deliver the event."""
        try:
            event, published_at = json.loads(task.fields["event"]), float(task.fields["at"])
            str(event["event_id"]), str(event["type"])
        except (ValueError, KeyError, TypeError):
            raise Rejected(Reason.MALFORMED_TASK, "no event with a time") from None
        await self._webhooks.deliver(task.fields["endpoint"], event, published_at)


async def post_event(poster: Poster, endpoint: Endpoint, event: Mapping[str, Any], published_at: float) -> int:
    """Make one attempt. Returns and raises as `Poster.post`."""
    at = datetime.fromtimestamp(published_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {"type": event["type"], "timestamp": at, "data": event}
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return await poster.post(endpoint.remote_url, body, endpoint.sign(str(event["event_id"]), int(now_s()), body))


def posters_of(remote: RemoteConfig, user_agent: str) -> dict[bool, Poster]:
    """Return a poster that refuses inner addresses, and one that allows them."""
    inner = {False: remote.allow_networks, True: _ANY_NETWORK}
    return {
        internal: Poster(
            AddressGuard(deny_networks=remote.deny_networks, allow_networks=networks),
            timeout_s=_TIMEOUT_S,
            user_agent=user_agent,
        )
        for internal, networks in inner.items()
    }


def _stopped_key(name: str) -> str:
    return f"media_webhook_stopped:{{{name}}}"
