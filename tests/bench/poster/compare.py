"""Ours: the service's own path, by ranges through the cage. Theirs: the whole file by boto3, then one ffmpeg.

Both end with three JPEGs in this process' hands, and ours with facts, a BlurHash and the scrub's plan besides. Theirs
takes the first frame, blank or not. Pools and the forker are up before; the store is a Ceph on this very machine, whose
bytes come at memory's speed: over a network the difference is larger.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import trio

from avion_media.config import Config, S3Config, ThumbnailsConfig
from avion_media.domain.formats import Family
from avion_media.media.cage import open_cage
from avion_media.media.jobs import preload_for
from avion_media.media.sniff import HEAD_BYTES, require_format, sniff
from avion_media.media.workshop import Workshop
from avion_media.store import ObjectStore, open_store
from avion_media.tasks.sources import StoreSource, open_spool
from tests.bench.figures import Figure, Goal, Pairs
from tests.bench.poster.video import LARGE, SMALL, make_videos
from tests.bench.setting import Setting

_MB = 1e6
_FFMPEG_S = 60


def measure(setting: Setting) -> list[Figure]:
    """Seconds and megabytes until the poster, by where the video's index lies."""
    figures = []
    for name, path in make_videos(SMALL if setting.quick else LARGE).items():
        key = f"bench/{path.name}"
        setting.store.client.upload_file(str(path), setting.store.bucket, key)
        figures += trio.run(_compare, setting, name, key, path.stat().st_size)
    return figures


async def _compare(setting: Setting, name: str, key: str, size_bytes: int) -> list[Figure]:
    config = Config(s3=S3Config(endpoint_url=setting.store.address.endpoint_url, bucket=setting.store.bucket))
    enabled = config.decoders.enabled()
    async with (
        open_store(config.s3) as store,
        open_cage(budget_bytes=config.cage.budget, preload=preload_for(enabled)) as cage,
    ):
        workshop = Workshop(cage, config.thumbnails, config.upload, config.cage)
        fetched: list[int] = []

        async def poster() -> float:
            began = time.perf_counter()
            fetched.append(await _poster_by_ranges(store, workshop, key, enabled))
            return time.perf_counter() - began

        def ours() -> float:
            return trio.from_thread.run(poster)

        def theirs() -> float:
            began = time.perf_counter()
            _download_then_ffmpeg(setting, key, config.thumbnails)
            return time.perf_counter() - began

        rounds = 1 if setting.quick else 7
        if not setting.quick:
            await trio.to_thread.run_sync(lambda: Pairs.taken(1, ours, theirs))  # warm-up
        pairs = await trio.to_thread.run_sync(lambda: Pairs.taken(rounds, ours, theirs))
    megabytes = max(fetched) / _MB
    return [
        pairs.figure(f"poster, {name}", "s", Goal(0.4)),
        Figure(
            f"poster, {name}, fetched",
            "MB",
            ours=megabytes,
            theirs=size_bytes / _MB,
            ratio=megabytes * _MB / size_bytes,
            goal=Goal(10, of="ours"),
        ),
    ]


async def _poster_by_ranges(store: ObjectStore, workshop: Workshop, key: str, enabled: frozenset[str]) -> int:
    """What the processing task does up to the poster; returns how many bytes it fetched."""
    info = await store.head(key)
    with ExitStack() as files:
        source = StoreSource(store, info, files.enter_context(open_spool()))
        await source.fetch([(0, HEAD_BYTES)])
        head = os.pread(source.fd, HEAD_BYTES, 0)
        made = await workshop.process(
            source, require_format(sniff(head, size=info.size_bytes), Family.VIDEO, enabled), files
        )
        assert len(made.thumbnails) == len(ThumbnailsConfig().sizes)
        return sum(length for _, length in source.present)


def _download_then_ffmpeg(setting: Setting, key: str, thumbnails: ThumbnailsConfig) -> list[bytes]:
    """boto3's transfer manager (parallel parts), then one ffmpeg that decodes one frame and scales it three times."""
    edges = [size.longest_edge for size in thumbnails.sizes]
    labels = [f"s{edge}" for edge in edges]
    graph = f"[0:v]split={len(edges)}" + "".join(f"[i{label}]" for label in labels)
    for edge, label in zip(edges, labels, strict=True):
        graph += f";[i{label}]scale=w={edge}:h={edge}:force_original_aspect_ratio=decrease[{label}]"
    with tempfile.TemporaryDirectory(prefix="avion-media-bench-") as scratch:
        video = Path(scratch, "video.mp4")
        setting.store.client.download_file(setting.store.bucket, key, str(video))
        outputs = [Path(scratch, f"{label}.jpg") for label in labels]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(video), "-filter_complex", graph]
        for label, output in zip(labels, outputs, strict=True):
            command += ["-map", f"[{label}]", "-frames:v", "1", "-q:v", "4", str(output)]
        subprocess.run(command, check=True, timeout=_FFMPEG_S)
        return [output.read_bytes() for output in outputs]
