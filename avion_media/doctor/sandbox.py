"""The sandbox: what confines decoders on this kernel, and whether ffmpeg is there."""

from __future__ import annotations

from functools import partial

from avion_media.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.media.sandbox import SandboxReport


class SandboxChecks:
    """What the sandbox relies on; from the report that the sandbox makes of itself at its start."""

    def __init__(self, report: SandboxReport) -> None:
        self._report = report

    def all(self) -> list[Check]:
        """In the order in which they are worth reading."""
        weaker = "a hijacked decoder could do this; `serve` refuses to start here unless SANDBOX__REQUIRE is false"
        check = partial(Check, Area.SANDBOX)
        return [
            check("decoders are denied all that they need not", self._gaps, weaker, CheckStatus.WARNING),
            check("the kernel has Landlock and seccomp", self._kernel, weaker, CheckStatus.WARNING),
            check("ffmpeg and ffprobe can run confined", self._programs, "videos are not processed"),
        ]

    async def _gaps(self) -> str:
        if self._report.gaps:
            raise CheckFailed(f"not denied: {', '.join(self._report.gaps)}")
        return "self-test passed"

    async def _kernel(self) -> str:
        lacking = [
            name
            for name, there in (("Landlock", self._report.landlock_abi), ("seccomp", self._report.seccomp))
            if not there
        ]
        if lacking:
            raise CheckFailed(f"no {' and no '.join(lacking)}")
        return f"Landlock ABI {self._report.landlock_abi}"

    async def _programs(self) -> str:
        if self._report.missing_programs:
            raise CheckFailed("; ".join(f"{name}: {why}" for name, why in self._report.missing_programs.items()))
        return ""
