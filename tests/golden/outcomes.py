"""What `media/` makes of one file, as plain values. The only module of the golden run that knows its interfaces."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import trio

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import FORMATS, Family, MediaFormat
from avion_media.media.jobs import require_memory
from avion_media.media.pipeline import MediaPipeline, Processed, preload_for
from avion_media.media.sandbox import open_sandbox
from avion_media.media.scrubber import REASONS, require_format
from avion_media.media.settings import SandboxConfig, ThumbnailsConfig, UploadConfig
from mediascrub import PEEK_BYTES, Format, ScrubError, peek, plan_movie, read_picture
from mediascrub.bounds import PictureBounds, VideoBounds
from mediascrub.movie import MoviePlan
from mediascrub.ranges import Range
from mediascrub.sniffing import HEAD_BYTES, sniff
from mediascrub.sparse import Missing, SparseFile
from mediathumbs import ThumbnailSize, picture_memory_bytes, vips
from mediathumbs.pictures import make_thumbnails
from tests.unit.media.pieces import Pieces

Outcome = dict[str, Any]
ENABLED = frozenset(fmt.name for fmt in FORMATS)
vips.allow_png()
vips.allow_webp()
_PIECE_BYTES = 4 << 10
_MAX_ROUNDS = 64
_FILE_LIMIT_S = 300


@asynccontextmanager
async def opened() -> AsyncIterator[Callable[[Path, bool], Any]]:
    """Gives the function that runs one file (whole, or in pieces) through the pipeline, as a task does."""
    config = SandboxConfig()
    async with open_sandbox(budget_bytes=2 * config.memory, preload=preload_for(ENABLED)) as sandbox:
        pipeline = MediaPipeline(sandbox, ThumbnailsConfig(), UploadConfig(), config)

        async def process(path: Path, whole: bool) -> Outcome | None:
            with ExitStack() as files, trio.fail_after(_FILE_LIMIT_S):
                spool = files.enter_context(TemporaryFile(buffering=0))
                source = Pieces(path, spool.fileno(), whole=whole)
                try:
                    fmt = _format(path)
                    if fmt.family is Family.IMAGE and not whole:
                        return None  # pictures are always fetched whole
                    made = await pipeline.process(source, fmt, files)
                except Rejected as rejected:
                    return {"reason": rejected.reason.value}
                return _described(made) | {
                    "asked": _hashed(repr([list(map(int, each)) for each in source.asked]).encode())
                }

        yield process


def _format(path: Path) -> MediaFormat:
    with path.open("rb") as file:
        sniffed = sniff(file.read(HEAD_BYTES), size=path.stat().st_size)
    return require_format(sniffed, None, ENABLED)


def _described(made: Processed) -> Outcome:
    return {
        "format": made.format.name,
        "size": [made.width, made.height],
        "blurhash": made.blurhash,
        "animated": made.animated,
        "duration_s": round(made.duration_s, 6),
        "thumbnails": {name: _hashed(data) for name, data in made.thumbnails.items()},
        "original": [made.scrubbed_bytes, made.sha256],
        "patches": _hashed(repr([(each.offset, each.length, each.data) for each in made.patches]).encode()),
    }


def _hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- without the sandbox, for small and made files ----------------------------------------------------------------

_SIZES = [ThumbnailSize("small", 64), ThumbnailSize("large", 300)]
_PICTURE_BOUNDS = PictureBounds(max_pixels=4_000_000, max_frames=200)
_MAX_MEMORY_BYTES = 256 << 20
_VIDEO_BOUNDS = VideoBounds(max_boxes=20_000, max_samples=200_000)


def picture(data: bytes, fmt: Format) -> Outcome:
    """Facts, thumbnails and the scrubbed original of a picture."""
    peeked = peek(data[:PEEK_BYTES], fmt)
    found: Outcome = {"forecast": picture_memory_bytes(peeked, fmt, len(data)) if peeked else "unknown"}
    try:
        read = read_picture(memoryview(data), fmt, _PICTURE_BOUNDS)
        require_memory(read, _MAX_MEMORY_BYTES)
        made = make_thumbnails(read, _SIZES)
    except ScrubError as error:
        return found | {"reason": REASONS[error.code].value}
    except MemoryError:
        return found | {"reason": Reason.DECODER_LIMIT.value}
    except Rejected as rejected:
        return found | {"reason": rejected.reason.value}
    width, height = read.displayed_size
    return found | {
        "size": [width, height],
        "frames": read.frames,
        "duration_s": round(read.duration_s, 6),
        "thumbnails": {name: _hashed(each) for name, each in made.by_name.items()},
        "blurhash": made.blurhash,
        "original": [len(read.original), _hashed(read.original)],
    }


def plan(data: bytes, fmt: Format) -> Outcome:
    """The plan of a video: of the whole file, and of one that is fed in pieces of 4 KiB."""
    with TemporaryFile(buffering=0) as spool:
        spool.write(data)
        whole = _examined(SparseFile(spool.fileno(), len(data)), fmt)
        present: list[Range] = []
        asked: list[Range] = []
        for _ in range(_MAX_ROUNDS):
            pieces = _examined(SparseFile(spool.fileno(), len(data), present), fmt)
            if not isinstance(pieces, tuple):
                break
            asked += pieces
            present += [_rounded(each, len(data)) for each in pieces]
    answer = pieces if isinstance(pieces, dict) else {"reason": "no end of questions"}
    asked_for = _hashed(repr([(each.offset, each.length) for each in asked]).encode())
    return {"whole": whole, "pieces": answer | {"asked": asked_for}}


def _examined(file: SparseFile, fmt: Format) -> Outcome | tuple[Range, ...]:
    try:
        return _plan(plan_movie(file, fmt, bounds=_VIDEO_BOUNDS))
    except Missing as missing:
        return missing.ranges
    except ScrubError as error:
        return {"reason": REASONS[error.code].value}


def _plan(made: MoviePlan) -> Outcome:
    return {
        "duration_s": round(made.duration_s, 6),
        "poster_s": round(made.poster_s, 6),
        "poster": [[each.offset, each.length] for each in made.poster_ranges],
        "patches": [[each.offset, each.length, each.data.hex()[:64]] for each in made.patches],
    }


def _rounded(part: Range, size_bytes: int) -> Range:
    start = part.offset - part.offset % _PIECE_BYTES
    return Range(start, min(size_bytes, -(-part.end // _PIECE_BYTES) * _PIECE_BYTES) - start)
