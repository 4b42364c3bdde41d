"""Ours: the service's own path, by ranges through the sandbox. Theirs: the whole file by boto3, then one ffmpeg.

Both end with three JPEGs in this process' hands, and ours with facts, a BlurHash and the scrub's plan besides; ours
passes over blank frames, theirs takes the first one. Pools and the fork server are up before. Measured twice: with the
store on this very machine, whose bytes come at memory's speed, and behind a link of 1 Gbit/s, which also counts the
bytes.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import trio
from botocore.config import Config as BotoConfig

from avion_media.backends.files import open_spool
from avion_media.backends.settings import S3Config
from avion_media.backends.store import ObjectStore, open_store
from avion_media.common.formats import Family
from avion_media.config import Config
from avion_media.media.pipeline import MediaPipeline, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.scrubber import require_format
from avion_media.media.settings import ThumbnailsConfig
from avion_media.workers.processor import StoreSource
from mediascrub import HEAD_BYTES, sniff
from mediascrub.ranges import Range
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.poster.link import GIGABIT, open_link
from tests.bench.poster.video import LARGE, SMALL, make_videos
from tests.bench.setting import Setting

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_FFMPEG_S = 60
_GOAL = Goal(0.4)


@dataclass(frozen=True)
class _Video:
    """A video in a bucket of the store at ``store_url``."""

    store_url: str
    bucket: str
    key: str


def measure(setting: Setting) -> list[Figure]:
    """Seconds and megabytes until the poster, by where the video's index lies."""
    figures = []
    store_url, bucket = setting.store.address.endpoint_url, setting.store.bucket
    rounds = 1 if setting.quick else 7
    with open_link(store_url, GIGABIT) as link:
        for name, path in make_videos(SMALL if setting.quick else LARGE).items():
            key = f"bench/{path.name}"
            setting.store.client.upload_file(str(path), bucket, key)
            pairs = trio.run(_seconds, _Video(store_url, bucket, key), rounds)
            figures.append(pairs.figure(f"poster, {name}", "s", _GOAL))
            behind_link = _Video(link.url, bucket, key)
            pairs = trio.run(_seconds, behind_link, 1 if setting.quick else 3)
            figures.append(pairs.figure(f"poster, {name}, store at 1 Gbit/s", "s", _GOAL))
            before = link.passed_bytes()
            trio.run(_ours_once, behind_link)
            fetched, whole = (link.passed_bytes() - before) / 1e6, path.stat().st_size / 1e6
            figures.append(
                Figure(f"poster, {name}, fetched", "MB", fetched, whole, fetched / whole, goal=Goal(10, of="ours"))
            )
    return figures


async def _seconds(video: _Video, rounds: int) -> Pairs:
    """Both in turns, from a thread of their own; one round before that does not count."""
    async with _our_side(video) as poster:
        with _their_client(video) as client:
            ours = partial(trio.from_thread.run, poster)
            theirs = partial(_download_then_ffmpeg, client, video)
            await trio.to_thread.run_sync(Pairs.taken, 1, ours, theirs)
            return await trio.to_thread.run_sync(Pairs.taken, rounds, ours, theirs)


async def _ours_once(video: _Video) -> None:
    async with _our_side(video) as poster:
        await poster()


@asynccontextmanager
async def _our_side(video: _Video) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """What the processing task does up to the poster, as a function that gives the seconds it took."""
    config = Config(s3=S3Config(endpoint_url=video.store_url, bucket=video.bucket))
    enabled = config.decoders.enabled()
    async with (
        open_store(config.s3) as store,
        open_sandbox(budget_bytes=config.sandbox.budget, preload=preload_for(enabled)) as sandbox,
    ):
        pipeline = MediaPipeline(sandbox, config.thumbnails, config.upload, config.sandbox)

        async def poster() -> float:
            began = time.perf_counter()
            await _poster_by_ranges(store, pipeline, video.key, enabled)
            return time.perf_counter() - began

        yield poster


async def _poster_by_ranges(store: ObjectStore, pipeline: MediaPipeline, key: str, enabled: frozenset[str]) -> None:
    info = await store.head(key)
    with ExitStack() as files:
        source = StoreSource(store, info, files.enter_context(open_spool()))
        await source.fetch([Range(0, HEAD_BYTES)])
        head = os.pread(source.fd, HEAD_BYTES, 0)
        fmt = require_format(sniff(head, size=info.size_bytes), Family.VIDEO, enabled)
        made = await pipeline.process(source, fmt, files)
        assert len(made.thumbnails) == len(ThumbnailsConfig().sizes)


@contextmanager
def _their_client(video: _Video) -> Iterator[S3Client]:
    config = BotoConfig(s3={"addressing_style": "path"})
    client: S3Client = boto3.client("s3", endpoint_url=video.store_url, region_name="us-east-1", config=config)
    try:
        yield client
    finally:
        client.close()


def _download_then_ffmpeg(client: S3Client, video: _Video) -> float:
    """boto3's transfer manager (parallel parts), then one ffmpeg that decodes one frame and scales it three times."""
    began = time.perf_counter()
    edges = [size.longest_edge for size in ThumbnailsConfig().sizes]
    graph = f"[0:v]split={len(edges)}" + "".join(f"[whole{edge}]" for edge in edges)
    for edge in edges:
        graph += f";[whole{edge}]scale=w={edge}:h={edge}:force_original_aspect_ratio=decrease[{edge}]"
    with tempfile.TemporaryDirectory(prefix="avion-media-bench-") as scratch:
        path = Path(scratch, "video.mp4")
        client.download_file(video.bucket, video.key, str(path))
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-filter_complex", graph]
        for edge in edges:
            command += ["-map", f"[{edge}]", "-frames:v", "1", "-q:v", "4", str(Path(scratch, f"{edge}.jpg"))]
        subprocess.run(command, check=True, timeout=_FFMPEG_S)
        thumbnails = [Path(scratch, f"{edge}.jpg").read_bytes() for edge in edges]
    assert all(thumbnails)
    return time.perf_counter() - began
