"""The whole examination: opens what is examined, runs every probe, leaves nothing behind."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio

from avion_media.config import Config
from avion_media.doctor.clients import UploadClient
from avion_media.doctor.forgeries import ForgeryProbes
from avion_media.doctor.objects import ObjectProbes
from avion_media.doctor.probe import Area, Finding, Probe, Verdict, run_probe
from avion_media.doctor.redis import RedisProbes
from avion_media.doctor.sandbox import SandboxProbes
from avion_media.doctor.uploads import UploadProbes
from avion_media.domain.errors import Unavailable
from avion_media.domain.keys import INCOMING_PREFIX
from avion_media.media.sandbox import open_sandbox
from avion_media.redis import open_redis
from avion_media.store import ca_bundle, open_store

_HTTP_S = 10.0
_CLEAN_S = 10.0
Found = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class _StoreProbes:
    there: Probe
    uploads: UploadProbes
    forgeries: ForgeryProbes
    objects: ObjectProbes


async def examine(config: Config, areas: frozenset[Area], found: Found) -> list[Finding]:
    """Run the probes of these areas, one after the other, and tell ``found`` of each as it ends.

    It writes below ``incoming/doctor-…`` and removes that again, after a cancel too; what a crash leaves there goes by
    the bucket's lifecycle rule. On Redis it changes nothing. A dependency that is away is one failed finding, not many.
    """
    findings: list[Finding] = []

    def note(finding: Finding) -> None:
        findings.append(finding)
        found(finding)

    if Area.STORE in areas:
        async with _store_probes(config, note) as store:
            forgeries = store.forgeries
            await _run(
                [store.there, forgeries.accepted(), *store.uploads.all(), *forgeries.all(), *store.objects.all()], note
            )
    if Area.REDIS in areas:
        async with open_redis(config.redis.url, timeout_s=config.redis.timeout) as redis:
            await _run(RedisProbes(redis).all(), note)
    if Area.SANDBOX in areas:
        await _examine_sandbox(note)
    return findings


async def examine_forgeries(config: Config) -> list[Finding]:
    """Only what upload URLs are worth at this store: what `init` must know. Leaves as little behind as `examine`.

    It uses the service's own address of the store: that of clients need not lead anywhere yet.
    """
    findings: list[Finding] = []
    inside = config.model_copy(update={"s3": config.s3.model_copy(update={"public_endpoint_url": ""})})
    async with _store_probes(inside, findings.append) as store:
        await _run([store.there, store.forgeries.accepted(), *store.forgeries.all()], findings.append)
    return findings


async def _run(probes: list[Probe], note: Found) -> None:
    """All of them; when the first, that it is there at all, fails, the others would only repeat it."""
    for number, probe in enumerate(probes):
        finding = await run_probe(probe)
        note(finding)
        if number == 0 and finding.verdict is not Verdict.OK:
            return


@asynccontextmanager
async def _store_probes(config: Config, note: Found) -> AsyncIterator[_StoreProbes]:
    folder = f"{INCOMING_PREFIX}doctor-{secrets.token_hex(8)}/"
    async with open_store(config.s3) as store, _http_client() as http:

        async def answers() -> str:
            await store.ping()
            return config.s3.endpoint_url

        client = UploadClient(store, http, folder)
        objects = ObjectProbes(store, http, folder, incoming_s=config.tasks.accepted_life_s)
        there = Probe(Area.STORE, "it answers, and has the bucket", answers, "nothing can be stored or served")
        left: list[str] = []
        try:
            yield _StoreProbes(there, UploadProbes(client), ForgeryProbes(client, config.s3), objects)
        finally:
            if store.available:
                # Shielded, since Ctrl-C or a reader that has seen enough must not leave it there; bounded by its time.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_S):
                    left = await objects.clean()
        if left:
            note(_left_behind(left))


def _http_client() -> httpx.AsyncClient:
    """A client that trusts the store as the service does."""
    bundle = ca_bundle()
    verify = ssl.create_default_context(cafile=bundle) if bundle else True
    return httpx.AsyncClient(trust_env=False, timeout=_HTTP_S, verify=verify)


def _left_behind(keys: list[str]) -> Finding:
    claim = "the examination leaves nothing behind"
    return Finding(Area.STORE, claim, Verdict.WARNING, ", ".join(keys), "remove these objects by hand")


async def _examine_sandbox(note: Found) -> None:
    claim = "decoders can be confined at all"
    try:
        async with open_sandbox(slots=1, budget_bytes=1 << 30, preload=(), require=False) as sandbox:
            await _run(SandboxProbes(sandbox.report).all(), note)
    except Unavailable as error:
        note(Finding(Area.SANDBOX, claim, Verdict.FAILED, str(error), "nothing is processed"))
