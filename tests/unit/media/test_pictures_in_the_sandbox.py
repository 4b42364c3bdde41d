"""Pictures through the pipeline and the real sandbox, with the imaging libraries that the fork server loads."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from PIL import Image

from avion_media.backends.files import SpooledSource
from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import AVIF, BY_NAME, GIF, HEIC, JPEG, PNG, WEBP, MediaFormat
from avion_media.media.pipeline import MediaPipeline, Processed, preload_for
from avion_media.media.sandbox import Sandbox, open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig

DATA = Path(__file__).parents[2] / "data"
ALL = frozenset(BY_NAME)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=1 << 30, preload=preload_for(ALL)) as opened:
        yield opened


async def process(sandbox: Sandbox, data: bytes, fmt: MediaFormat, config: SandboxConfig | None = None) -> Processed:
    pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), config or SandboxConfig())
    with ExitStack() as files:
        spool = files.enter_context(tempfile.TemporaryFile(buffering=0))
        spool.write(data)
        return await pipeline.process(SpooledSource(spool.fileno(), len(data)), fmt, files)


def photograph(format_name: str, size: tuple[int, int] = (1000, 750)) -> bytes:
    out = io.BytesIO()
    with Image.open(DATA / "jpeg-dog-12mp-6.jpg") as image:
        image.draft("RGB", size)
        image.convert("RGB").resize(size).save(out, format_name, compress_level=1, method=0)  # quickly
    return out.getvalue()


async def test_each_format_passes_the_real_sandbox(sandbox: Sandbox) -> None:
    for name, fmt in (
        ("jpeg-apple-gainmap-mpf-p3.jpg", JPEG), ("jpeg-cmyk.jpg", JPEG), ("png-16bit.png", PNG),
        ("png-alpha-large.png", PNG), ("gif-animated.gif", GIF), ("webp-alpha.webp", WEBP),
        ("webp-animated.webp", WEBP), ("avif-irot-imir.avif", AVIF),
    ):  # fmt: skip
        made = await process(sandbox, (DATA / name).read_bytes(), fmt)
        assert {format_of(made, size) for size in ("small", "medium", "large")} == {"JPEG"}, name
        assert "full" not in made.thumbnails, name
    assert sandbox.report.gaps == ()


def format_of(made: Processed, size: str) -> str | None:
    return Image.open(io.BytesIO(made.thumbnails[size])).format


async def test_what_browsers_cannot_show_has_a_jpeg_in_full(sandbox: Sandbox) -> None:
    made = await process(sandbox, (DATA / "heic-still-portrait.heic").read_bytes(), HEIC)
    full = Image.open(io.BytesIO(made.thumbnails["full"]))
    assert (full.format, full.size) == ("JPEG", (made.width, made.height)) == ("JPEG", (1080, 1920))
    assert set(made.thumbnails) == {"small", "medium", "large", "full"}
    assert {format_of(made, size) for size in made.thumbnails} == {"JPEG"}


async def test_the_fork_server_has_one_thread_however_many_pictures_were_made(sandbox: Sandbox) -> None:
    """A fork of a process with threads can stop for good at a lock that a thread held."""
    for format_name, fmt in (("PNG", PNG), ("WEBP", WEBP)):
        await process(sandbox, photograph(format_name), fmt)
    assert len(os.listdir(f"/proc/{sandbox.opened.fork_server_pid}/task")) == 1


@pytest.mark.parametrize(("format_name", "fmt"), [("PNG", PNG), ("WEBP", WEBP)])
async def test_the_sandbox_decodes_no_format_that_is_switched_off(format_name: str, fmt: MediaFormat) -> None:
    """The format check is before this; but a decoder that is off must not be reachable at all."""
    others = frozenset(ALL - {fmt.name})
    async with open_sandbox(budget_bytes=1 << 30, preload=preload_for(others)) as sandbox:
        with pytest.raises(Rejected) as refused:
            await process(sandbox, photograph(format_name), fmt)
    assert refused.value.reason is Reason.UNSUPPORTED_TYPE


@pytest.mark.parametrize(("format_name", "fmt"), [("PNG", PNG), ("WEBP", WEBP), ("JPEG", JPEG)])
async def test_a_picture_that_outgrows_its_memory_is_at_the_limit(
    sandbox: Sandbox, format_name: str, fmt: MediaFormat
) -> None:
    picture = photograph(format_name, (3000, 2200))
    for megabytes in (1, 8, 16, 24, 32, 40, 56):
        config = SandboxConfig.model_construct(memory=2 * len(picture) + (megabytes << 20))
        with trio.fail_after(30):  # it ends by itself, long before the job's deadline
            assert await refusal(sandbox, picture, fmt, config) in (None, Reason.DECODER_LIMIT), megabytes


async def refusal(sandbox: Sandbox, data: bytes, fmt: MediaFormat, config: SandboxConfig) -> Reason | None:
    try:
        await process(sandbox, data, fmt, config)
    except Rejected as error:
        return error.reason
    return None


IMPORTED = """
import sys
import avion_media.app, avion_media.cli
print(sorted(name for name in ("pyvips", "pillow_heif", "mediathumbs.pictures") if name in sys.modules))
"""


def test_the_service_itself_loads_no_library_that_decodes_with_native_code_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
