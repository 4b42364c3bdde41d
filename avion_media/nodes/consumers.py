"""The consumers of the queues: one subtree each, of the same shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

from avion_media.backends.queue import NEVER_GIVEN_UP, BulkJobs
from avion_media.backends.queue.bulk_jobs import PURGE, REPLAY, UNDELETE
from avion_media.backends.redis import Redis
from avion_media.backends.remote import Fetcher, HostLimiter, HostLimits, OwnUrls
from avion_media.backends.settings import RemoteConfig
from avion_media.backends.store import REMOVED_KEPT_S
from avion_media.common.tasks import CACHE_QUEUE, DELETE_QUEUE, PROCESSING_QUEUE, PURGE_QUEUE, TaskHandler
from avion_media.items.deletion import RemoveDeleted
from avion_media.nodes import group
from avion_media.process.runtime import Limiter, Runtime, guard_of
from avion_media.servers.settings import ServerSettings
from avion_media.workers.bulk import BulkRunner, PurgeHosts, ReplayDeadLetters, UndeleteMedia, Work
from avion_media.workers.cache_remote import CacheRemote
from avion_media.workers.cdn import Cdn
from avion_media.workers.consumer import Consumer
from avion_media.workers.decision import ConsumerPolicy
from avion_media.workers.process_media import ProcessMedia
from avion_media.workers.processor import Processor
from avion_media.workers.purge import PurgeMedia
from supervisors import Node, Supervisor

_STOP_S = 0.25  # the drain gave tasks their time already; what is left is released

# In terms of the first pause or wait:
_MAX_BACKOFF = 150  # five minutes by default
_LONGEST_PAUSE = 20  # ten minutes
_MAX_DEFERRAL = 30  # a quarter of an hour


def user_agent_of(config: ServerSettings) -> str:
    """How the fetcher names itself: an administrator who sees it in a log should find whom to ask."""
    ours = f"avion-media/{version('avion-media')}"
    return f"{ours} (+{config.http.public_url})" if config.http.public_url else ours


def own_urls_of(config: ServerSettings) -> OwnUrls:
    """Return the URLs of this installation, which the remote cache does not take."""
    http, s3 = config.http, config.s3
    origins = (http.public_url, *config.cdn.public_urls, f"http://{http.bind.reachable}")
    return OwnUrls(origins, s3.public_endpoint_url or s3.endpoint_url, s3.bucket)


def hosts_of(redis: Callable[[], Redis], remote: RemoteConfig, slots: int = 0) -> HostLimiter:
    """The bounds per remote host of the configuration, or with ``slots`` of their own."""
    policy = HostLimits(
        slots=slots or remote.host_slots,
        first_pause_s=remote.breaker_pause,
        longest_pause_s=_LONGEST_PAUSE * remote.breaker_pause,
    )
    return HostLimiter(redis, policy)


def _processor(runtime: Runtime) -> Processor:
    config = runtime.config
    return Processor(runtime.items, runtime.moderation, runtime.pipeline, config.upload, config.enabled_formats())


def processing(runtime: Runtime) -> Supervisor:
    """Thumbnails and originals of uploads."""
    handler = ProcessMedia(_processor(runtime))
    return subtree(runtime, "processing", PROCESSING_QUEUE, handler, runtime.config.tasks.slots)


def cache(runtime: Runtime, config: ServerSettings) -> Supervisor:
    """Remote media."""
    fetcher = Fetcher(
        guard_of(config.remote),
        max_bytes=config.remote.max_bytes,
        timeout_s=config.remote.timeout,
        user_agent=user_agent_of(config),
        hosts=hosts_of(lambda: runtime.redis, config.remote),
        is_blocked=runtime.moderation.hosts.is_blocked,
        own_urls=own_urls_of(config),
    )
    handler = CacheRemote(_processor(runtime), fetcher, config.remote)
    return subtree(runtime, "cache", CACHE_QUEUE, handler, config.remote.slots, tenant_cap=config.remote.host_slots)


def delete(runtime: Runtime) -> Supervisor:
    """Removal of what was deleted, and where there is a CDN to tell, its purge."""
    handler = RemoveDeleted(runtime.replay, removed_ttl_s=REMOVED_KEPT_S + runtime.config.tasks.accepted_life_s)
    beside = [_purge(runtime)] if runtime.config.cdn.purges else []
    return subtree(runtime, "delete", DELETE_QUEUE, handler, slots=1, beside=beside)


def _purge(runtime: Runtime) -> Supervisor:
    cdn = Cdn(runtime.config.cdn, runtime.telemetry)
    return subtree(runtime, "purge", PURGE_QUEUE, PurgeMedia(runtime.items, cdn), cdn.slots)


def subtree(
    runtime: Runtime,
    name: str,
    queue: str,
    handler: TaskHandler,
    slots: int,
    beside: Sequence[Node[None]] = (),
    tenant_cap: int = 0,
    **limits: float,
) -> Supervisor:
    """What works on one queue. ``limits``: fields of the policy that differ from those of other queues."""
    tasks = runtime.config.tasks
    usual = ConsumerPolicy(
        slots=slots,
        max_attempts=tasks.max_attempts,
        claim_after_s=tasks.claim_after,
        backoff_s=tasks.backoff,
        max_backoff_s=_MAX_BACKOFF * tasks.backoff,
        max_deferral_s=_MAX_DEFERRAL * runtime.config.remote.breaker_pause,
        max_age_s=tasks.max_age,
        gives_up=queue not in NEVER_GIVEN_UP,
        tenant_cap=tenant_cap,
    )
    policy = replace(usual, **limits)  # type: ignore[arg-type]
    consumer = Consumer(
        runtime.items.queues[queue],
        handler,
        policy,
        name=runtime.consumer,
        accepting_tasks=lambda: runtime.lifecycle.accepting_tasks,
        telemetry=runtime.telemetry,
        bulk=_bulk(runtime, queue),
        grace_s=_STOP_S,
    )
    runtime.drains[name] = consumer.drain
    runtime.observed.limiters[f"tasks.{name}"] = lambda: Limiter(consumer.running, slots)
    return group(name, [*consumer.children, *beside])


def _bulk(runtime: Runtime, queue: str) -> BulkRunner:
    """What works off the bulk jobs of a queue."""
    jobs = BulkJobs(runtime.redis, queue)
    work: dict[str, Work] = {REPLAY: ReplayDeadLetters(runtime.items.queues[queue])}
    if queue == DELETE_QUEUE:
        work[UNDELETE] = UndeleteMedia(runtime.replay, jobs)
        work[PURGE] = PurgeHosts(runtime.items, jobs)
    return BulkRunner(jobs, work)
