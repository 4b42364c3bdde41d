"""Facts of what the pipeline made, and the one write that makes it public."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import trio

from avion_media.domain.media import MediaFacts
from avion_media.domain.ranges import Patch
from avion_media.files import write_at
from avion_media.media.pipeline import MediaSource, Processed
from avion_media.store import FileSource, ObjectInfo, ObjectStore
from avion_media.tasks.publish import WriteOriginal

_HASH_UNIT_BYTES = 1 << 20
_ZEROS = bytes(1 << 20)


async def facts_of(made: Processed, source: MediaSource) -> MediaFacts:
    """The facts of the scrubbed original; patches are applied to a whole source here, so that it can be hashed.

    A video of which only ranges were fetched has no SHA-256 (it is left out of its metadata): that would cost reading
    all of it.
    """
    size_bytes, sha256 = source.size_bytes, made.sha256
    if made.scrubbed_fd is not None:
        size_bytes = made.scrubbed_bytes
    elif source.whole:
        sha256 = await trio.to_thread.run_sync(_patch_and_hash, source.fd, made)
    return MediaFacts(
        format=made.format,
        size_bytes=size_bytes,
        width=made.width,
        height=made.height,
        blurhash=made.blurhash,
        sha256=sha256,
        animated=made.animated,
        duration_s=round(made.duration_s, 3),  # as `MediaFacts.to_metadata` keeps it
        thumbnails=tuple(made.thumbnails),
    )


def _patch_and_hash(fd: int, made: Processed) -> str:
    for offset, data in _pieces(made.patches):
        write_at(fd, data, offset)
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(fd, _HASH_UNIT_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def _pieces(patches: Sequence[Patch]) -> list[tuple[int, bytes]]:
    """Offsets and bytes to write. Fills are cut into pieces that share one block of zeros: a free box can be large."""
    pieces: list[tuple[int, bytes]] = []
    for patch in patches:
        if patch.data:
            pieces.append((patch.offset, patch.data))
            continue
        for start in range(0, patch.length, len(_ZEROS)):
            length = min(len(_ZEROS), patch.length - start)
            pieces.append((patch.offset + start, _ZEROS if length == len(_ZEROS) else bytes(length)))
    return pieces


def original_writer(
    made: Processed,
    source: MediaSource,
    facts: MediaFacts,
    *,
    source_info: ObjectInfo | None,
    replace: bool = False,
) -> WriteOriginal:
    """How the original gets into the store: written anew, or copied there with its private ranges replaced.

    An upload's original is written once; a remote medium's may replace what an earlier fetch found (``replace``).
    """

    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        if made.scrubbed_fd is not None or source.whole:
            fd = made.scrubbed_fd if made.scrubbed_fd is not None else source.fd
            await store.put(
                key,
                FileSource(fd, facts.size_bytes),
                content_type=content_type,
                metadata=metadata,
                only_if_absent=not replace,
            )
            return
        if source_info is None:
            raise ValueError("a source that is not whole is an object of the store")
        await store.patch_copy(
            source_info.key,
            key,
            size_bytes=source.size_bytes,
            patches=_pieces(made.patches),
            content_type=content_type,
            metadata=metadata,
            source_etag=source_info.etag,
            only_if_absent=not replace,
        )

    return write
