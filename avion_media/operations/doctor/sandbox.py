"""The sandbox: what confines decoders on this kernel, by its own report, and whether they work."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

from avion_media.backends.files import SpooledSource, open_spool, write_at
from avion_media.common.errors import DecoderFailed, Rejected
from avion_media.common.formats import MP4
from avion_media.media.pipeline import MediaPipeline
from avion_media.media.sandbox import Sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from avion_media.operations.doctor.check import Area, CheckFailed, Checks, CheckStatus
from mediathumbs import ThumbnailSize
from trio_sandbox import SandboxJobFailed

SANDBOX: Final = Checks[Sandbox](Area.SANDBOX)
_SAMPLE: Final = Path(__file__).with_name("sample.mp4")  # one frame of H.264, 32 x 32 pixels, made by ffmpeg's testsrc
_THUMBNAILS: Final = ThumbnailsConfig(sizes=(ThumbnailSize("small", 16),), webp="all")


@SANDBOX.add(
    "blocks everything that a decoder does not need",
    "a hijacked decoder could do this; `serve` starts here only with SANDBOX__REQUIRE=false",
    CheckStatus.WARNING,
)
async def _gaps(sandbox: Sandbox) -> str:
    if sandbox.report.gaps:
        raise CheckFailed(f"not denied: {', '.join(sandbox.report.gaps)}")
    return "self-test passed"


@SANDBOX.add("kernel has Landlock and seccomp", "decoders have one protection instead of two", CheckStatus.WARNING)
async def _kernel(sandbox: Sandbox) -> str:
    protections = {"Landlock": sandbox.report.landlock_abi, "seccomp": sandbox.report.seccomp}
    lacking = [name for name, there in protections.items() if not there]
    if lacking:
        raise CheckFailed(f"no {' and no '.join(lacking)}")
    return f"Landlock ABI {sandbox.report.landlock_abi}"


@SANDBOX.add("makes a poster and its thumbnails", "nothing can be processed")
async def _poster(sandbox: Sandbox) -> None:
    """Of a small video: libav and the imaging libraries load, decode, scale in threads of their own, and write."""
    pipeline = MediaPipeline(sandbox, _THUMBNAILS, UploadConfig(), SandboxConfig())
    with ExitStack() as files:
        copy = files.enter_context(open_spool())  # the pipeline scrubs it
        sample = _SAMPLE.read_bytes()
        write_at(copy, sample, 0)
        try:
            made = await pipeline.process(SpooledSource(copy, len(sample)), MP4, files)
        except (DecoderFailed, SandboxJobFailed) as error:
            raise CheckFailed(str(error).strip().rpartition("\n")[2]) from error
        except Rejected as error:
            raise CheckFailed(str(error)) from error
    if not made.thumbnails["small"].startswith(b"\xff\xd8\xff"):
        raise CheckFailed("no JPEG was written")
