"""The whole examination: opens what is examined, runs every check, leaves nothing behind."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ca_bundle, open_store
from avion_media.common.errors import Unavailable
from avion_media.common.kernel import raise_file_limit
from avion_media.common.keys import INCOMING_PREFIX
from avion_media.media.pipeline import preload_for
from avion_media.media.sandbox.sandbox import open_sandbox
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckResult, CheckStatus, run_check
from avion_media.operations.doctor.clients import UploadClient
from avion_media.operations.doctor.forgeries import ForgeryChecks
from avion_media.operations.doctor.objects import ObjectChecks
from avion_media.operations.doctor.records import of_bucket, of_processes
from avion_media.operations.doctor.redis import RedisChecks
from avion_media.operations.doctor.sandbox import SandboxChecks
from avion_media.operations.doctor.uploads import UploadChecks
from avion_media.operations.setup import lives_of
from avion_media.process.settings import ProcessSettings

_HTTP_S = 10.0
_CLEAN_S = 10.0
Found = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True)
class _StoreChecks:
    there: Check
    uploads: UploadChecks
    forgeries: ForgeryChecks
    objects: ObjectChecks
    records: Check


async def examine(
    config: ProcessSettings, areas: frozenset[Area], found: Found, *, files_needed: int
) -> list[CheckResult]:
    """Run the checks of these areas, one after the other, and call ``found`` with the result of each as it ends.

    ``files_needed``: how many files `serve` can have open at once.

    It writes below ``incoming/doctor-…`` and removes that again, after a cancel too; what a crash leaves there goes by
    the bucket's lifecycle rule. On Redis it changes nothing. An unavailable dependency is one failed result, not many.
    """
    results: list[CheckResult] = []

    def note(result: CheckResult) -> None:
        results.append(result)
        found(result)

    if Area.STORE in areas:
        async with _store_checks(config, note) as store:
            forgeries = store.forgeries
            await _run(
                [
                    store.there,
                    forgeries.accepted(),
                    *store.uploads.all(),
                    *forgeries.all(),
                    *store.objects.all(),
                    store.records,
                ],
                note,
            )
    if Area.REDIS in areas:
        async with open_redis(
            config.redis.url, timeout_s=config.redis.timeout, state_url=config.status.redis_url
        ) as redis:
            await _run([*RedisChecks(redis).all(), of_processes(redis)], note)
            if redis.state is not redis:
                await _run(RedisChecks(redis.state).of_statuses(), note)
    if Area.SANDBOX in areas:
        await _examine_sandbox(config, note)
    if Area.PROCESS in areas:
        await _run([_of_files(files_needed)], note)
    return results


async def examine_forgeries(config: ProcessSettings) -> list[CheckResult]:
    """Only what upload URLs are worth at this store: what `init` must know. Leaves as little behind as `examine`.

    It uses the service's own address of the store: the clients' address might lead nowhere yet.
    """
    results: list[CheckResult] = []
    inside = config.model_copy(update={"s3": config.s3.model_copy(update={"public_endpoint_url": ""})})
    async with _store_checks(inside, results.append) as store:
        await _run([store.there, store.forgeries.accepted(), *store.forgeries.all()], results.append)
    return results


async def _run(checks: list[Check], note: Found) -> None:
    """All of them; when the first, that it is there at all, fails, the others would only repeat it."""
    for number, check in enumerate(checks):
        result = await run_check(check)
        note(result)
        if number == 0 and result.status is not CheckStatus.OK:
            return


@asynccontextmanager
async def _store_checks(config: ProcessSettings, note: Found) -> AsyncIterator[_StoreChecks]:
    folder = f"{INCOMING_PREFIX}doctor-{secrets.token_hex(8)}/"
    async with open_store(config.s3) as store, _http_client() as http:

        async def answers() -> str:
            await store.ping()
            return config.s3.endpoint_url

        client = UploadClient(store, http, folder)
        objects = ObjectChecks(store, http, folder, lives=lives_of(config))
        there = Check(Area.STORE, "is reachable, and the bucket exists", answers, "nothing can be stored or served")
        left: list[str] = []
        try:
            yield _StoreChecks(there, UploadChecks(client), ForgeryChecks(client, config.s3), objects, of_bucket(store))
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


def _left_behind(keys: list[str]) -> CheckResult:
    check = "the examination leaves nothing behind"
    return CheckResult(Area.STORE, check, CheckStatus.WARNING, ", ".join(keys), "remove these objects by hand")


def _of_files(needed: int) -> Check:
    async def enough() -> str:
        limit = raise_file_limit()
        if limit < needed:
            raise CheckFailed(f"{limit:.0f} are allowed, {needed} can be needed")
        return f"{limit:.0f}"

    return Check(
        Area.PROCESS,
        "may open as many files as its limits allow connections",
        enough,
        "`serve` accepts fewer connections: raise the hard limit (LimitNOFILE, --ulimit nofile, limits.conf)",
        CheckStatus.WARNING,
    )


async def _examine_sandbox(config: ProcessSettings, note: Found) -> None:
    check = "decoders can be confined at all"
    try:
        preload = preload_for(config.decoders.enabled())  # what the service's own sandbox has loaded
        async with open_sandbox(slots=1, budget_bytes=1 << 30, preload=preload, require=False) as sandbox:
            await _run(SandboxChecks(sandbox).all(), note)
    except Unavailable as error:
        note(CheckResult(Area.SANDBOX, check, CheckStatus.FAILED, str(error), "nothing is processed"))
