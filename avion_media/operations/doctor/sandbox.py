"""The sandbox: what confines decoders on this kernel, and whether they work."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from avion_media.backends.files import SpooledSource, open_spool, write_at
from avion_media.common.errors import Rejected
from avion_media.common.formats import MP4
from avion_media.common.media import ThumbnailSize
from avion_media.media.pipeline import MediaPipeline
from avion_media.media.sandbox import SandboxJobFailed
from avion_media.media.sandbox.sandbox import Sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from avion_media.operations.doctor.check import Area, Check, CheckFailed, CheckStatus

_SAMPLE: Final = Path(__file__).with_name("sample.mp4")  # one frame of H.264, 32 x 32 pixels, made by ffmpeg's testsrc
_THUMBNAILS: Final = ThumbnailsConfig(sizes=(ThumbnailSize("small", 16),), webp="all")


class SandboxChecks:
    """What the sandbox relies on: from the report that it makes of itself at its start, and by making thumbnails."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._report = sandbox.report

    def all(self) -> list[Check]:
        """Return the checks, the most important first."""
        check = partial(Check, Area.SANDBOX)
        weaker = "a hijacked decoder could do this; `serve` starts here only with SANDBOX__REQUIRE=false"
        one = "decoders have one protection instead of two"
        return [
            check("blocks everything that a decoder does not need", self._gaps, weaker, CheckStatus.WARNING),
            check("kernel has Landlock and seccomp", self._kernel, one, CheckStatus.WARNING),
            check("makes a poster and its thumbnails", self._poster, "nothing can be processed"),
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

    async def _poster(self) -> str:
        """Of a small video: libav and the imaging libraries load, decode, scale in threads of their own, and write."""
        pipeline = MediaPipeline(self._sandbox, _THUMBNAILS, UploadConfig(), SandboxConfig())
        with ExitStack() as files:
            copy = files.enter_context(open_spool())  # the pipeline scrubs it
            sample = _SAMPLE.read_bytes()
            write_at(copy, sample, 0)
            source = SpooledSource(copy, len(sample))
            try:
                made = await pipeline.process(source, MP4, files)
            except SandboxJobFailed as error:
                raise CheckFailed(str(error).strip().rpartition("\n")[2]) from error
            except Rejected as error:
                raise CheckFailed(str(error)) from error
        if not made.thumbnails["small"].startswith(b"\xff\xd8\xff"):
            raise CheckFailed("no JPEG was written")
        return ""
