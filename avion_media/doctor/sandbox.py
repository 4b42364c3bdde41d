"""The sandbox: what confines decoders on this kernel, and whether ffmpeg is there."""

from __future__ import annotations

import os
from functools import partial
from tempfile import TemporaryFile
from typing import Final

from avion_media.config import ThumbnailsConfig
from avion_media.doctor.check import Area, Check, CheckFailed, CheckStatus
from avion_media.domain.media import ThumbnailSize
from avion_media.media.pipeline import FRAME_JOB, frame_arguments
from avion_media.media.sandbox import Limits, SandboxJobFailed
from avion_media.media.sandbox.sandbox import Sandbox

_FRAME_SIDE: Final = 64  # pixels
_THUMBNAILS: Final = ThumbnailsConfig(sizes=(ThumbnailSize("small", _FRAME_SIDE // 2),), webp="all")
_THUMBNAIL_LIMITS: Final = Limits(memory_bytes=96 << 20, cpu_s=10, wall_s=20, output_bytes=1 << 20)


class SandboxChecks:
    """What the sandbox relies on: from the report that it makes of itself at its start, and by making thumbnails."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._report = sandbox.report

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""
        weaker = "a hijacked decoder could do this; `serve` starts here only with SANDBOX__REQUIRE=false"
        check = partial(Check, Area.SANDBOX)
        return [
            check("blocks everything that a decoder does not need", self._gaps, weaker, CheckStatus.WARNING),
            check("kernel has Landlock and seccomp", self._kernel, weaker, CheckStatus.WARNING),
            check("makes thumbnails", self._thumbnails, "nothing can be processed"),
            check("runs ffmpeg and ffprobe", self._programs, "videos cannot be processed"),
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

    async def _thumbnails(self) -> str:
        """Of a gray frame: the imaging libraries load, scale in a thread of their own, and write."""
        with (
            TemporaryFile(buffering=0) as frame,
            TemporaryFile(buffering=0) as thumbnail,
            TemporaryFile(buffering=0) as webp,
        ):
            frame.write(bytes([128]) * 3 * _FRAME_SIDE**2)
            try:
                await self._sandbox.call(
                    FRAME_JOB,
                    frame_arguments((_FRAME_SIDE, _FRAME_SIDE), _THUMBNAILS),
                    files=[frame.fileno(), thumbnail.fileno(), webp.fileno()],
                    limits=_THUMBNAIL_LIMITS,
                )
            except SandboxJobFailed as error:
                raise CheckFailed(str(error).strip().rpartition("\n")[2]) from error
            if os.pread(thumbnail.fileno(), 3, 0) != b"\xff\xd8\xff":
                raise CheckFailed("no JPEG was written")
        return ""

    async def _programs(self) -> str:
        if self._report.missing_programs:
            raise CheckFailed("; ".join(f"{name}: {why}" for name, why in self._report.missing_programs.items()))
        return ""
