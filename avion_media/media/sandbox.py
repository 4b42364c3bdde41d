"""The sandbox of `trio_sandbox` with the errors, the messages and the log of this service.

Jobs raise `Rejected`, or `ScrubError` of mediascrub and mediathumbs. `job_errors` translates both inside their
processes, and callers get `Rejected` and `Unavailable` from here. `JobNotStarted`, a bug, stays as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import trio_sandbox
from avion_media.common.errors import (
    DecoderFailed,
    DecoderKilled,
    Dependency,
    MediaError,
    Reason,
    Rejected,
    Unavailable,
)
from trio_sandbox import (
    Admission,
    BudgetTooSmall,
    InputRejected,
    JobCrashed,
    JobKilled,
    JobNotStarted,
    JobReport,
    LimitExceeded,
    Limits,
    NotConfined,
    Renewal,
    SandboxError,
    SandboxJobFailed,
    SandboxReport,
)
from trio_telemetry import get_logger

_log = get_logger()
_TRANSLATE: Final = "avion_media.media.job_errors:rejection_of"
# These have errors of their own.
_CODES: Final = frozenset(Reason) - {Reason.DECODER_LIMIT, Reason.DECODER_CRASHED, Reason.DECODER_FAILED}


class Sandbox:
    """An open sandbox; made by `open_sandbox`. See `trio_sandbox.Sandbox`."""

    def __init__(self, opened: trio_sandbox.Sandbox) -> None:
        self.opened = opened

    @property
    def report(self) -> SandboxReport:
        """The confinement on this machine."""
        return self.opened.report

    @property
    def admission(self) -> Admission:
        """The slots and the memory, free and taken."""
        return self.opened.admission

    async def call(self, target: str, arguments: dict[str, Any], *, files: Sequence[int] = (), limits: Limits) -> Any:
        """Run our function ``target`` in a fresh sandboxed process; return its result: see `trio_sandbox.Sandbox.call`.

        Errors: `Rejected` for what the job says of the file; `Rejected` with DECODER_LIMIT or DECODER_CRASHED;
        `DecoderFailed` for any other exception of the job; `DecoderKilled`; `Unavailable` if the sandbox is down;
        `JobNotStarted`, which is a bug.
        """
        try:
            return await self.opened.call(target, arguments, files=files, limits=limits)
        except JobNotStarted:
            raise
        except SandboxJobFailed as error:
            raise DecoderFailed(str(error)) from error
        except SandboxError as error:
            raise _translated(error) from error

    async def maintain(self) -> NoReturn:
        """Replace the fork server from time to time, and log it. Raises `Unavailable` if it dies."""
        try:
            await self.opened.maintain(log_renewal)
        except SandboxError as error:
            raise _translated(error) from error


@asynccontextmanager
async def open_sandbox(
    *,
    slots: int = 2,
    budget_bytes: int,
    preload: Sequence[str] = (),
    require: bool = False,
    observer: Callable[[JobReport], None] | None = None,
    waited: Callable[[float], None] | None = None,
) -> AsyncIterator[Sandbox]:
    """Open a sandbox for jobs of this service: see `trio_sandbox.open_sandbox`. Raises `Unavailable`."""
    try:
        async with trio_sandbox.open_sandbox(
            slots=slots,
            budget_bytes=budget_bytes,
            preload=preload,
            translate=_TRANSLATE,
            codes=_CODES,
            require=require,
            observer=observer,
            waited=waited,
        ) as opened:
            yield Sandbox(opened)
    except SandboxError as error:
        raise _translated(error) from error


def log_renewal(renewal: Renewal) -> None:
    """Log an attempt to replace a fork server."""
    if renewal.error:
        _log.warning("sandbox.renewal_failed", tasks=renewal.jobs, detail=renewal.error)
    else:
        _log.debug("sandbox.renewed", tasks=renewal.jobs)


def _translated(error: SandboxError) -> MediaError:
    """Return the error of this service for one of `trio_sandbox`."""
    match error:
        case InputRejected():
            return Rejected(Reason(error.code), error.detail)
        case LimitExceeded():
            return Rejected(Reason.DECODER_LIMIT, str(error))
        case JobCrashed():
            return Rejected(Reason.DECODER_CRASHED, str(error))
        case JobKilled():
            return DecoderKilled(str(error))
        case BudgetTooSmall():
            needed = f"a job needs {error.needed_bytes} bytes, and SANDBOX__BUDGET is {error.budget_bytes}"
            return Unavailable(Dependency.SANDBOX, needed)
        case NotConfined():
            return Unavailable(
                Dependency.SANDBOX,
                "this machine cannot confine decoders as SANDBOX__REQUIRE demands; "
                f"not denied: {', '.join(error.gaps)}."
                " Use a kernel that filters system calls (seccomp), and a container runtime that allows it,"
                " or accept the gaps with AVION_MEDIA_SANDBOX__REQUIRE=false",
            )
    return Unavailable(Dependency.SANDBOX, str(error))
