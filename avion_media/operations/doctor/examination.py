"""The whole examination: opens what is examined, runs every check, leaves nothing behind."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from shutil import disk_usage
from statistics import median
from tempfile import gettempdir
from typing import Final

import httpx
import trio

from avion_media.backends.redis import open_redis
from avion_media.backends.store import ca_bundle, open_store
from avion_media.common.errors import Unavailable
from avion_media.common.kernel import raise_file_limit
from avion_media.common.keys import INCOMING_PREFIX
from avion_media.common.settings import format_size
from avion_media.media.pipeline import preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.settings import SandboxConfig
from avion_media.operations.doctor.check import (
    Area,
    CheckFailed,
    CheckResult,
    Checks,
    CheckStatus,
    Found,
    run_checks,
)
from avion_media.operations.doctor.forgeries import ACCEPTED, FORGERIES
from avion_media.operations.doctor.native import load_libraries, native_checks
from avion_media.operations.doctor.objects import OBJECTS
from avion_media.operations.doctor.records import IN_BUCKET, OF_PROCESSES
from avion_media.operations.doctor.redis import OF_QUEUES, REACHABLE, REDIS, of_statuses
from avion_media.operations.doctor.sandbox import SANDBOX
from avion_media.operations.doctor.trial import Trial
from avion_media.operations.doctor.uploads import UPLOADS
from avion_media.operations.doctor.work import WORK
from avion_media.process.settings import ProcessSettings

STORE: Final = Checks[Trial](Area.STORE)
WRITABLE: Final = Checks[Trial](Area.STORE)
PROMPT: Final = Checks[Trial](Area.STORE)
PROCESS: Final = Checks[int](Area.PROCESS)
SPOOL: Final = Checks[int](Area.PROCESS)
_HTTP_S: Final = 10.0
_CLEAN_S: Final = 10.0
_PINGS: Final = 5
_SLOW_S: Final = 0.5  # a picture takes four seconds then: it needs nine calls
_STALLED_S: Final = 2.0


@STORE.add("is reachable, and the bucket exists", "nothing can be stored or served: docs/runbooks/store-unavailable.md")
async def _answers(trial: Trial) -> str:
    await trial.store.ping()
    return trial.config.endpoint_url


@WRITABLE.add("takes writes", "clients cannot upload and nothing can be processed; nothing else was tried")
async def _writes(trial: Trial) -> None:
    await trial.put("written-first")


@PROMPT.add("responds within half a second", "uploads and views are slow", CheckStatus.WARNING)
async def _promptly(trial: Trial) -> str:
    took = []
    for _ in range(_PINGS):
        started = trio.current_time()
        await trial.store.ping()
        took.append(trio.current_time() - started)
    detail = f"median {median(took) * 1000:.0f} ms, at most {max(took) * 1000:.0f} ms"
    if median(took) > _SLOW_S or max(took) > _STALLED_S:
        raise CheckFailed(detail)
    return detail


async def _can_be_examined(trial: Trial, note: Found) -> bool:
    """Return whether the store responds and takes writes. Otherwise most checks would fail, and name other causes."""
    return await run_checks(STORE, trial, note) and await run_checks(WRITABLE, trial, note)


@PROCESS.add(
    "may open as many files as its limits allow connections",
    "`serve` accepts fewer connections: raise the hard limit (LimitNOFILE, --ulimit nofile, limits.conf)",
    CheckStatus.WARNING,
)
async def _files(needed: int) -> str:
    limit = raise_file_limit()
    if limit < needed:
        raise CheckFailed(f"{limit:.0f} are allowed, {needed} can be needed")
    return f"{limit:.0f}"


@SPOOL.add("the spool has room for the largest upload", "uploads wait, with the error `disk`: make room, or mount more")
async def _room(needed: int) -> str:
    folder = gettempdir()
    free = disk_usage(folder).free
    detail = f"{format_size(free)} free in {folder}"
    if free < needed:
        raise CheckFailed(f"{detail}, {format_size(needed)} can be needed")
    return detail


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
        async with _trial(config, note) as trial:
            if await _can_be_examined(trial, note):
                await run_checks([*PROMPT, *ACCEPTED, *UPLOADS, *FORGERIES, *OBJECTS, *IN_BUCKET], trial, note)
    if Area.REDIS in areas:
        async with open_redis(
            config.redis.url, timeout_s=config.redis.timeout, state_url=config.status.redis_url
        ) as redis:
            if await run_checks(REACHABLE, redis, note):
                await run_checks([*REDIS, *OF_QUEUES, *OF_PROCESSES, *WORK], redis, note)
            state, label = redis.state, redis.state.label
            if state is not redis and await run_checks(of_statuses(REACHABLE), state, note, label):
                await run_checks(of_statuses(REDIS), state, note, label)
    if Area.SANDBOX in areas:
        try:
            preload = preload_for(config.enabled_formats())  # what the service's own sandbox has loaded
            budget = SandboxConfig().budget
            async with open_sandbox(slots=1, budget_bytes=budget, preload=preload, require=False) as sandbox:
                await run_checks(SANDBOX, sandbox, note)
        except Unavailable as error:
            check = "decoders can be confined at all"
            note(CheckResult(Area.SANDBOX, check, CheckStatus.FAILED, str(error), "nothing is processed"))
    if Area.NATIVE in areas:
        await run_checks(native_checks(config.enabled_formats()), await load_libraries(), note)
    if Area.PROCESS in areas:
        await run_checks(PROCESS, files_needed, note)
        await run_checks(SPOOL, 2 * config.upload.most_bytes, note)  # the upload, and what is made of it
    return results


async def examine_forgeries(config: ProcessSettings) -> list[CheckResult]:
    """Only what upload URLs are worth at this store: what `init` must know. Leaves as little behind as `examine`.

    It uses the service's own address of the store: the clients' address might lead nowhere yet.
    """
    results: list[CheckResult] = []
    inside = config.model_copy(update={"s3": config.s3.model_copy(update={"public_endpoint_url": ""})})
    async with _trial(inside, results.append) as trial:
        if await _can_be_examined(trial, results.append):
            await run_checks([*ACCEPTED, *FORGERIES], trial, results.append)
    return results


@asynccontextmanager
async def _trial(config: ProcessSettings, note: Found) -> AsyncIterator[Trial]:
    bundle = ca_bundle()  # it trusts the store as the service does
    verify = ssl.create_default_context(cafile=bundle) if bundle else True
    async with (
        open_store(config.s3) as store,
        httpx.AsyncClient(trust_env=False, timeout=_HTTP_S, verify=verify) as http,
    ):
        trial = Trial(store, http, f"{INCOMING_PREFIX}doctor-{secrets.token_hex(8)}/", config)
        left: list[str] = []
        try:
            yield trial
        finally:
            if store.state.is_available:
                # Shielded, since Ctrl-C or a reader that has seen enough must not leave it there; bounded by its time.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_S):
                    left = await trial.clean()
        if left:
            check = "the examination leaves nothing behind"
            note(CheckResult(Area.STORE, check, CheckStatus.WARNING, ", ".join(left), "remove these objects by hand"))
