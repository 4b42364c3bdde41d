"""Media processing in one call: from a source of bytes to thumbnails, facts and a scrubbed original."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Protocol

import trio

from avion_media.backends.files import LocalFile, open_spool, write_at
from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_NAME, HEIC, PNG, WEBP, Family, MediaFormat
from avion_media.common.media import FULL_SIZE, MAX_MANIFEST_BYTES, CredentialsState
from avion_media.media.job_results import (
    POSTER_SCAN_S,
    checked_manifest,
    checked_missing,
    checked_names,
    checked_picture,
    checked_poster,
    checked_sound,
    read_plan,
    read_thumbnails,
)
from avion_media.media.plans import outside
from avion_media.media.sandbox import Sandbox
from avion_media.media.scrubber import read_manifest, state_of
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import PEEK_BYTES, Credentials, Format, peek
from mediascrub.bounds import PictureBounds, VideoBounds
from mediascrub.movie import POSTER_S, MoviePlan
from mediascrub.ranges import Patch, Range, joined_patches, merged, pieces, total_bytes, within
from mediathumbs import (
    MAX_THUMBNAIL_BYTES,
    WAVEFORM_MEMORY_BYTES,
    ThumbnailSize,
    picture_memory_bytes,
    poster_memory_bytes,
    thumbnail_names,
)
from trio_sandbox import Limits, read_only

MAX_EXAMINE_ROUNDS = 64  # how often the container reader may ask for more bytes
MAX_EXAMINE_BYTES = 96 << 20  # … beyond so many the whole file is fetched
_MAX_PLAN_BYTES = 4 << 20  # 50 000 patches and more; hours of subtitles take ten thousand
_PLAN_OUTPUT_BYTES = 16 << 20
_VIPS = "mediathumbs.vips"
_DECODERS = {HEIC.name: "pillow_heif", PNG.name: f"{_VIPS}:allow_png", WEBP.name: f"{_VIPS}:allow_webp"}


def preload_for(enabled: frozenset[str]) -> tuple[str, ...]:
    """Return what the fork server must load. A sandboxed job can import nothing, and decodes no other format.

    It loads the jobs themselves at their first call, so an idle replica holds no libraries of images.
    """
    return tuple(entry for name, entry in _DECODERS.items() if name in enabled)


class MediaSource(LocalFile, Protocol):
    """A file that is fetched as far as it is needed."""

    @property
    def present(self) -> Sequence[Range]:
        """The ranges that are present."""

    async def fetch(self, ranges: Sequence[Range]) -> None:
        """Make the ranges present in the file."""


@dataclass(frozen=True, slots=True)
class Processed:
    """The result of the pipeline. Its files belong to the `ExitStack` given to `MediaPipeline.process`."""

    format: MediaFormat
    width: int
    height: int
    blurhash: str
    thumbnails: dict[str, bytes]
    animated: bool = False
    duration_s: float = 0.0
    scrubbed_fd: int | None = None  # the scrubbed original, if it was written again (images)
    scrubbed_bytes: int = 0
    sha256: str = ""  # of the scrubbed original, unless only a part of it was here
    waveform: bytes = b""  # of sound
    patches: tuple[Patch, ...] = ()  # of a video: what is changed in the source, in place; in its local file they are
    credentials: CredentialsState = CredentialsState.NONE
    digital_source_type: str = ""  # as the file says, unverified
    claim_generator: str = ""
    manifest: bytes = b""  # the content credentials to keep beside the original


class MediaPipeline:
    """Runs the sandbox's jobs, with the limits of one configuration."""

    def __init__(
        self, sandbox: Sandbox, thumbnails: ThumbnailsConfig, upload: UploadConfig, sandbox_config: SandboxConfig
    ) -> None:
        self.sandbox = sandbox
        self._thumbnails = thumbnails
        self._limits = Limits(sandbox_config.memory, sandbox_config.timeout, sandbox_config.timeout, output_bytes=0)
        self._picture_bounds = PictureBounds(
            max_pixels=upload.max_pixels,
            max_duration_s=upload.max_duration,
        )
        self._video_bounds = VideoBounds(max_pixels=upload.max_pixels, max_duration_s=upload.max_duration)
        self._audio_bounds = replace(self._video_bounds, max_duration_s=upload.max_audio_duration)

    async def process(
        self,
        source: MediaSource,
        fmt: MediaFormat,
        files: ExitStack,
        accept: Callable[[MediaFormat], None] | None = None,
        *,
        keep_credentials: bool = False,
    ) -> Processed:
        """Process one media item whose content is of ``fmt``, or begins as if it were.

        ``accept`` is called with the true format if that is another one, before anything is decoded. It can raise.
        ``keep_credentials``: see `state_of`.

        Raises `Rejected` if the file is at fault, `Unavailable` if the sandbox or the source is unavailable. A cancel
        kills the sandboxed process, and leaves only what ``files`` closes.
        """
        if fmt.family is Family.IMAGE:
            return await self._picture(source, fmt, files, keep_credentials)
        plan = await self._examine(source, fmt, POSTER_S, keep_credentials)
        true_format = BY_NAME[plan.format.value]
        if true_format is not fmt and accept is not None:
            accept(true_format)
        if true_format.family is Family.AUDIO:
            return await self._audio(source, true_format, plan, files, keep_credentials)
        return await self._video(source, true_format, plan, files, keep_credentials)

    async def _picture(
        self, source: MediaSource, fmt: MediaFormat, files: ExitStack, keep_credentials: bool
    ) -> Processed:
        sizes = self._thumbnails.sizes if fmt.shown_by_browsers else (*self._thumbnails.sizes, FULL_SIZE)
        scrubbed, manifest = (files.enter_context(open_spool()) for _ in range(2))
        outputs = {name: files.enter_context(open_spool()) for name in thumbnail_names(sizes)}
        kind, most_bytes = Format(fmt.name), self._limits.memory_bytes
        peeked = peek(os.pread(source.fd, PEEK_BYTES, 0), kind)
        found = await self._decoded(
            "avion_media.media.jobs:picture_job",
            {"format": fmt.name, "bounds": asdict(self._picture_bounds), "keep_credentials": keep_credentials}
            | self._wanted(sizes),
            [source.fd, scrubbed, manifest, *outputs.values()],
            forecast_bytes=picture_memory_bytes(peeked, kind, source.size_bytes) if peeked else most_bytes,
            output_bytes=2 * source.size_bytes + MAX_THUMBNAIL_BYTES,
        )
        found = checked_picture(found, scrubbed, self._picture_bounds)
        found["credentials"] = CredentialsState(found["credentials"])
        if found["credentials"] is CredentialsState.BESIDE_FILE:
            found["manifest"] = checked_manifest(os.pread(manifest, MAX_MANIFEST_BYTES + 1, 0))
        return Processed(fmt, thumbnails=read_thumbnails(outputs), scrubbed_fd=scrubbed, **found)

    async def _video(
        self, source: MediaSource, fmt: MediaFormat, plan: MoviePlan, files: ExitStack, keep_credentials: bool
    ) -> Processed:
        outputs = {name: files.enter_context(open_spool()) for name in thumbnail_names(self._thumbnails.sizes)}
        done: Sequence[Patch] = ()
        credentials = plan.credentials  # the patches of this plan may remove them, also what they say
        provenance = plan.provenance
        kept = credentials.carriers if credentials and keep_credentials else ()
        plan, sha256 = await self._patched(source, plan, done, kept)
        found = await self._poster(source, plan, outputs)
        if found["blank"] and not source.whole:  # rare, so more is fetched only then
            done = plan.patches
            plan = await self._examine(source, fmt, POSTER_SCAN_S, keep_credentials)
            plan, sha256 = await self._patched(source, plan, done, kept)
            found = await self._poster(source, plan, outputs)
        if found["blank"] and (key_frame := found["key_frame"]) is not None:
            # Some encoders set a key frame every ten seconds, also where a black start ends.
            plan = replace(plan, poster_ranges=(*plan.poster_ranges, key_frame))
            plan, sha256 = await self._patched(source, plan, done, kept)
            found = await self._poster(source, plan, outputs, key_frame)
        # Use the decoder's size, because only it knows a pixel aspect that is in the coded video.
        shown = {name: found[name] for name in ("width", "height", "blurhash")}
        facts = shown | {"animated": True, "duration_s": plan.duration_s, "thumbnails": read_thumbnails(outputs)}
        made = Processed(fmt, **facts, **asdict(provenance), sha256=sha256, patches=plan.patches)
        return await self._with_credentials(made, source, credentials, kept, keep_credentials)

    async def _audio(
        self, source: MediaSource, fmt: MediaFormat, plan: MoviePlan, files: ExitStack, keep_credentials: bool
    ) -> Processed:
        outputs = {name: files.enter_context(open_spool()) for name in thumbnail_names(self._thumbnails.sizes)}
        credentials = plan.credentials
        kept = credentials.carriers if credentials and keep_credentials else ()
        plan, sha256 = await self._patched(source, plan, (), kept)
        max_duration_s = self._audio_bounds.max_duration_s
        found = await self._decoded(
            "avion_media.media.jobs:sound_job",
            {"format": fmt.name, "max_duration_s": max_duration_s} | self._wanted(self._thumbnails.sizes),
            [source.fd, *outputs.values()],
            forecast_bytes=WAVEFORM_MEMORY_BYTES,
            output_bytes=MAX_THUMBNAIL_BYTES,
        )
        facts = checked_sound(found, max_duration_s) | {"thumbnails": read_thumbnails(outputs)}
        facts |= asdict(plan.provenance)
        made = Processed(fmt, width=0, height=0, blurhash="", **facts, sha256=sha256, patches=plan.patches)
        return await self._with_credentials(made, source, credentials, kept, keep_credentials)

    async def _with_credentials(
        self,
        made: Processed,
        source: MediaSource,
        credentials: Credentials | None,
        kept: Sequence[Range],
        keep_credentials: bool,
    ) -> Processed:
        """Return the result with what becomes of the content credentials. What is ``kept`` is not scrubbed yet."""
        if credentials is None:
            return made
        credentials = replace(credentials, alone=credentials.alone and not outside(made.patches, kept))
        state = state_of(credentials, keep=keep_credentials)
        if state is CredentialsState.IN_FILE:
            return replace(made, patches=(), credentials=state)
        if not kept:
            return replace(made, credentials=state)
        manifest = b""
        if state is CredentialsState.BESIDE_FILE:
            await source.fetch(credentials.manifest)
            manifest = checked_manifest(read_manifest(source.fd, credentials.manifest))
        sha256 = await trio.to_thread.run_sync(_patch, source, made.patches)
        return replace(made, sha256=sha256, credentials=state, manifest=manifest)

    async def _patched(
        self, source: MediaSource, plan: MoviePlan, done: Sequence[Patch], kept: Sequence[Range]
    ) -> tuple[MoviePlan, str]:
        """Fetch what the poster needs, scrub all that is present, and return the plan with all patches, and a hash.

        What is ``kept`` is not scrubbed yet.
        """
        await source.fetch(plan.poster_ranges)  # before the patches: a later fetch would restore private bytes
        if done:  # by a former plan, which wins where both patch the same bytes
            others = outside(plan.patches, [Range(each.offset, each.length) for each in done])
            plan = replace(plan, patches=joined_patches(chain(done, others)))
        return plan, await trio.to_thread.run_sync(_patch, source, outside(plan.patches, kept))

    async def _poster(
        self, source: MediaSource, plan: MoviePlan, outputs: dict[str, int], key_frame: Range | None = None
    ) -> dict[str, Any]:
        """Write thumbnails of a frame to ``outputs``, and return its facts."""
        for each in outputs.values():
            os.ftruncate(each, 0)  # the thumbnails of a blank frame, if any
        arguments = {
            "format": plan.format.value,
            "stream": plan.stream,
            # In a sparse file, the decoder must not read beyond the fetched bytes.
            "scan_s": POSTER_SCAN_S if source.whole else plan.poster_s,
            "key_frame": key_frame,
            "bounds": asdict(self._video_bounds),
        }
        found = await self._decoded(
            "avion_media.media.jobs:poster_job",
            arguments | self._wanted(self._thumbnails.sizes),
            [source.fd, *outputs.values()],
            forecast_bytes=poster_memory_bytes(plan.pixels),
            output_bytes=MAX_THUMBNAIL_BYTES,
        )
        return checked_poster(found, source.size_bytes, self._video_bounds)

    async def _decoded(
        self, job: str, arguments: dict[str, Any], files: Sequence[int], *, forecast_bytes: int, output_bytes: int
    ) -> dict[str, Any]:
        """Run a job that decodes ``files[0]``: with as much memory as forecast, or with all if that is too little."""
        source, *targets = files
        most_bytes = self._limits.memory_bytes
        found: dict[str, Any] = {}
        for granted_bytes in (min(forecast_bytes, most_bytes), most_bytes):
            with read_only(source) as own:
                limits = replace(self._limits, memory_bytes=granted_bytes, output_bytes=output_bytes)
                granted = arguments | {"granted_bytes": granted_bytes, "max_memory_bytes": most_bytes}
                answer = await self.sandbox.call(job, granted, files=[own, *targets], limits=limits)
            found = checked_names(answer)
            if "needed_bytes" not in found:
                break
        return found

    def _wanted(self, sizes: Sequence[ThumbnailSize]) -> dict[str, Any]:
        """Return a job's arguments about its thumbnails."""
        named = [[size.name, size.longest_edge] for size in sizes]
        return {"sizes": named, "quality": self._thumbnails.quality, "webp": self._thumbnails.webp}

    async def _examine(
        self, source: MediaSource, fmt: MediaFormat, poster_s: float, keep_credentials: bool
    ) -> MoviePlan:
        """Run the container reader, and fetch what it misses, until it is finished."""
        whole = Range(0, source.size_bytes)
        bounds = self._audio_bounds if fmt.family is Family.AUDIO else self._video_bounds
        scrubbed: list[int] = []  # the file again, if the job must scrub it
        arguments = {
            "format": fmt.name,
            "size_bytes": source.size_bytes,
            "bounds": asdict(bounds),
            "poster_s": poster_s,
            "max_plan_bytes": _MAX_PLAN_BYTES,
            "keep_credentials": keep_credentials,
        }
        limits = replace(self._limits, output_bytes=max(_PLAN_OUTPUT_BYTES, source.size_bytes))
        for rounds in range(MAX_EXAMINE_ROUNDS):
            arguments["present"] = source.present
            with open_spool() as written, read_only(source.fd) as own:
                answer = await self.sandbox.call(
                    "avion_media.media.plans:plan_job", arguments, files=[own, written, *scrubbed], limits=limits
                )
                found = checked_names(answer)
                if "plan_bytes" in found:
                    # In a thread, because fifty thousand patches take a while.
                    read = partial(read_plan, bounds=bounds, max_bytes=_PLAN_OUTPUT_BYTES)
                    return await trio.to_thread.run_sync(read, written, Format(fmt.name), source.size_bytes)
            if "scattered" in found and not scrubbed:
                # Too many patches for a result: fetch the whole file, and let the job patch the local copy.
                scrubbed = [source.fd]
                await source.fetch([whole])
                continue
            if source.whole:
                break  # nothing can be missing
            wanted = checked_missing(found, source.size_bytes)
            if rounds == MAX_EXAMINE_ROUNDS - 2 or total_bytes([*wanted, *source.present]) > MAX_EXAMINE_BYTES:
                wanted = [whole]  # no index, or many scattered boxes: fetch all of it, once
            await source.fetch(wanted)
        raise Rejected(Reason.CORRUPT, "the container's index cannot be read within bounds")


def _patch(source: MediaSource, patches: Sequence[Patch]) -> str:
    """Scrub the local file of the source. Return its SHA-256 if it is complete, else an empty text."""
    for offset, data in pieces(within(patches, merged(source.present))):
        write_at(source.fd, data, offset)
    if not source.whole:
        return ""
    with read_only(source.fd) as own, open(own, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
