"""What becomes of content credentials, through the pipeline and the real sandbox."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from avion_media.backends.files import open_spool
from avion_media.common.formats import (
    AVIF,
    BY_EXTENSION,
    BY_NAME,
    GIF,
    HEIC,
    JPEG,
    MOV,
    MP3,
    MP4,
    PNG,
    WEBP,
    MediaFormat,
)
from avion_media.common.media import MAX_MANIFEST_BYTES, CredentialsState
from avion_media.media import pipeline as pipeline_module
from avion_media.media.pipeline import MediaPipeline, Processed, preload_for
from avion_media.media.sandbox import Sandbox, open_sandbox
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import Format, labelled, read_picture, scrub_file
from mediascrub.ranges import pieces
from mediascrub.tests.signed import manifest_of, sign, validate, with_manifest
from mediascrub.tests.test_provenance import AI, FORMS
from mediascrub.tests.videos import ffmpeg
from tests.unit.media.pieces import Pieces

DATA = Path(__file__).parents[2] / "data"
SAMPLES = {
    "jpeg-portrait-orientation-6.jpg": JPEG,
    "png-exif-gps-text.png": PNG,
    "polyglot-gif-js.gif": GIF,
    "webp-orientation-6.webp": WEBP,
    "avif-irot-imir.avif": AVIF,
    "heic-still-portrait.heic": HEIC,
    "mp4-h264-udta-xyz-location.mp4": MP4,
    "mov-h264.mov": MOV,
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(budget_bytes=3 << 30, preload=preload_for(frozenset(BY_NAME))) as opened:
        yield opened


async def process(
    sandbox: Sandbox, data: bytes, fmt: MediaFormat, *, keep: bool = True, partly: bool = False
) -> tuple[Processed, bytes]:
    """Return the result, and the file that is published."""
    pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), SandboxConfig())
    with ExitStack() as files:
        fd = files.enter_context(open_spool())
        made = await pipeline.process(Pieces(data, fd, whole=not partly), fmt, files, keep_credentials=keep)
        if made.scrubbed_fd is not None:
            return made, os.pread(made.scrubbed_fd, made.scrubbed_bytes, 0)
        published = bytearray(data)
        for offset, new in pieces(made.patches):
            published[offset : offset + len(new)] = new
        assert partly or os.pread(fd, len(data), 0) == published
        return made, bytes(published)


def signed_and_clean(name: str, folder: Path) -> tuple[bytes, bytes]:
    """Return the sample without private data, signed, and its manifest."""
    scrub_file(DATA / name, folder / name)
    return sign((folder / name).read_bytes(), Format(BY_EXTENSION[name.rpartition(".")[2]].name))


async def test_credentials_stay_where_nothing_else_is_private_and_are_kept_beside_the_file_or_dropped_elsewhere(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    for name, fmt in SAMPLES.items():
        signed, _ = signed_and_clean(name, tmp_path)
        made, published = await process(sandbox, signed, fmt)
        assert (made.credentials, made.manifest) == (CredentialsState.IN_FILE, b""), name
        assert (published, made.sha256) == (signed, sha256(signed).hexdigest()), name
        assert validate(published, Format(fmt.name)) == "Valid", name

        signed, manifest = sign((DATA / name).read_bytes(), Format(fmt.name))
        made, published = await process(sandbox, signed, fmt)
        assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, manifest), name
        assert made.sha256 == sha256(published).hexdigest(), name
        dropped, without = await process(sandbox, signed, fmt, keep=False)
        assert (dropped.credentials, dropped.manifest) == (CredentialsState.DROPPED, b""), name
        assert dropped.digital_source_type == made.digital_source_type == "digitalCapture", name
        assert made.claim_generator.startswith("test"), name
        keeps_the_label = fmt in (JPEG, PNG, WEBP)
        assert (b"digitalCapture" in published, b"digitalCapture" in without) == (keeps_the_label, False), name
        assert (published == without) is not keeps_the_label, name
        again, _ = await process(sandbox, published, fmt)
        assert again.credentials is CredentialsState.NONE, name


async def test_sound_alone_keeps_its_credentials_too(sandbox: Sandbox, tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", "-metadata", "title=private", tmp_path / "a.mp3")
    scrub_file(tmp_path / "a.mp3", tmp_path / "clean.mp3")
    signed, _ = sign((tmp_path / "clean.mp3").read_bytes(), Format.MP3)
    made, published = await process(sandbox, signed, MP3)
    assert (made.credentials, published) == (CredentialsState.IN_FILE, signed)
    signed, manifest = sign((tmp_path / "a.mp3").read_bytes(), Format.MP3)
    made, published = await process(sandbox, signed, MP3)
    assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, manifest)
    assert b"jumb" not in published


async def test_a_video_of_which_only_parts_are_fetched_keeps_its_credentials_too(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    name, fmt = "mp4-h264-udta-xyz-location.mp4", Format.MP4
    signed, _ = signed_and_clean(name, tmp_path)
    made, published = await process(sandbox, signed, MP4, partly=True)
    assert (made.credentials, published, made.patches) == (CredentialsState.IN_FILE, signed, ())
    signed, manifest = sign((DATA / name).read_bytes(), fmt)
    made, published = await process(sandbox, signed, MP4, partly=True)
    assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, manifest)
    assert manifest not in published


async def test_a_video_that_is_patched_in_the_sandbox_keeps_its_credentials_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "_MAX_PLAN_BYTES", 1)
    signed, manifest = sign((DATA / "mp4-h264-udta-xyz-location.mp4").read_bytes(), Format.MP4)
    pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), SandboxConfig())
    with ExitStack() as files:
        fd = files.enter_context(open_spool())
        made = await pipeline.process(Pieces(signed, fd), MP4, files, keep_credentials=True)
        published = os.pread(fd, len(signed), 0)
    assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, manifest)
    assert made.sha256 == sha256(published).hexdigest()
    monkeypatch.undo()
    assert (await process(sandbox, signed, MP4))[1] == published


async def test_a_manifest_of_more_than_a_mebibyte_is_not_kept_beside_a_file(sandbox: Sandbox) -> None:
    for name in ("png-exif-gps-text.png", "mp4-h264-udta-xyz-location.mp4"):
        for more, state in ((0, CredentialsState.BESIDE_FILE), (1, CredentialsState.DROPPED)):
            manifest = manifest_of(bytes(MAX_MANIFEST_BYTES - len(manifest_of(b"")) + more))
            data = with_manifest((DATA / name).read_bytes(), Format(SAMPLES[name].name), manifest)
            made, published = await process(sandbox, data, SAMPLES[name])
            assert (made.credentials, made.manifest) == (state, b"" if more else manifest)
            assert manifest not in published


async def test_a_jpeg_that_lacks_its_end_is_changed_so_its_credentials_are_beside_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    signed, manifest = signed_and_clean("jpeg-portrait-orientation-6.jpg", tmp_path)
    made, published = await process(sandbox, signed.removesuffix(b"\xff\xd9"), JPEG)
    assert (made.credentials, made.manifest) == (CredentialsState.BESIDE_FILE, manifest)
    assert published.endswith(b"\xff\xd9")


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        (JPEG, {"format": "JPEG"}),
        (PNG, {"format": "PNG"}),
        (WEBP, {"format": "WEBP"}),
        (WEBP, {"format": "WEBP", "lossless": True}),
    ],
    ids=["jpeg", "png", "webp", "lossless webp"],
)
async def test_a_label_in_xmp_alone_is_kept_as_the_only_property(
    sandbox: Sandbox, fmt: MediaFormat, options: dict[str, Any]
) -> None:
    xmp = FORMS["attribute"].replace("/>", ' xmp:CreatorTool="private"/>').encode()
    picture = Image.effect_noise((64, 48), 60).convert("RGBA" if "lossless" in options else "RGB")
    written = io.BytesIO()
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    picture.save(written, xmp=xmp, pnginfo=info, **options)
    for keep in (True, False):
        made, published = await process(sandbox, written.getvalue(), fmt, keep=keep)
        assert (made.digital_source_type, made.claim_generator) == (AI, "")
        assert (made.credentials, made.sha256) == (CredentialsState.NONE, sha256(published).hexdigest())
        assert (AI.encode() in published, b"private" in published) == (keep, False)
        with Image.open(io.BytesIO(published)) as shown, Image.open(io.BytesIO(written.getvalue())) as uploaded:
            assert shown.convert("RGBA").tobytes() == uploaded.convert("RGBA").tobytes()
    picture.save(plain := io.BytesIO(), **options)
    without = read_picture(memoryview(plain.getvalue()), Format(fmt.name))
    with Image.open(io.BytesIO(labelled(without, AI))) as shown, Image.open(plain) as uploaded:
        assert AI in str(shown.getxmp()) or AI in str(shown.info)
        assert shown.convert("RGBA").tobytes() == uploaded.convert("RGBA").tobytes()
