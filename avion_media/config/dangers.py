"""Settings that are legal, but rarely meant: `config` and `serve` warn of them, and so does the console."""

from __future__ import annotations

from collections.abc import Iterator

from avion_media.common.formats import FORMATS, Family
from avion_media.common.kernel import memory_bytes
from avion_media.common.settings import format_size
from avion_media.servers.settings import DEVELOPMENT, ServerSettings
from mediathumbs import largest_picture_memory_bytes

_MOST_FRACTION = 0.5
_LEAST_CLAIM_S = 10.0  # longer than a pause of the garbage collector, of a busy machine, or of its network
_LEAST_DELAY_S = 3600.0
_LEAST_MARGIN_S = 600.0
_LEAST_TTL_S = 60.0
_LEAST_AGE_S = 86400.0


def dangers(config: ServerSettings) -> list[str]:
    """Return one line for each dangerous setting: what it does."""
    return list(_dangers(config))


def _dangers(config: ServerSettings) -> Iterator[str]:
    if config.chaos.enabled and config.admin.environment != DEVELOPMENT:
        yield "CHAOS__ENABLED: each operator can kill parts of the service, which is never meant in production"
    if config.tasks.claim_after < _LEAST_CLAIM_S:
        yield "TASKS__CLAIM_AFTER is below 10 s: a worker that pauses for so long loses its tasks to others"
    if config.tasks.max_age < _LEAST_AGE_S:
        yield "TASKS__MAX_AGE is below a day: an outage of that length makes dead letters of all waiting tasks"
    if config.delete.delay < _LEAST_DELAY_S:
        yield "DELETE__DELAY is below an hour: what is deleted by mistake is lost before anybody notices"
    if config.sweep.margin < _LEAST_MARGIN_S:
        yield "SWEEP__MARGIN is below 10 minutes: the sweep may remove objects of uploads that are in progress"
    if config.remote.ttl < _LEAST_TTL_S:
        yield "REMOTE__TTL is below a minute: nearly each view of remote media asks their server again"
    if config.remote.allow_networks:
        yield "REMOTE__ALLOW_NETWORKS: other servers' URLs can reach inner addresses"
    if any(each.prefixlen == 0 for each in config.http.trusted_proxies):
        yield "HTTP__TRUSTED_PROXIES: each client can name any address as its own, and has no limit of its own"
    if any(each.prefixlen == 0 for each in config.admin.trusted_proxies):
        yield "ADMIN__TRUSTED_PROXIES: each client can name any address as its own, and itself as an operator"
    if not any(each.family is Family.IMAGE and each.name in config.decoders.enabled() for each in FORMATS):
        yield "DECODERS__*: no format of pictures is accepted"
    if config.sweep.max_fraction > _MOST_FRACTION:
        yield "SWEEP__MAX_FRACTION is above a half: one sweep may remove most media if listings are wrong"
    if not config.sandbox.require:
        yield "SANDBOX__REQUIRE: the service also starts where the kernel does not confine decoders of untrusted files"
    if config.sandbox.budget > (has_bytes := memory_bytes()):
        yield f"SANDBOX__BUDGET is above {format_size(has_bytes)}, the memory here: the kernel may kill the service"
    needed_bytes = largest_picture_memory_bytes(config.upload.max_pixels, config.decoders.enabled())
    if config.sandbox.memory < needed_bytes:
        yield (
            f"SANDBOX__MEMORY is below {format_size(needed_bytes)}: pictures of UPLOAD__MAX_PIXELS are accepted, and"
            " then refused as decoder_limit"
        )
