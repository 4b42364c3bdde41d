"""Facts of a processed file, and the write that makes it public."""

from __future__ import annotations

from avion_media.backends.store import FileSource, ObjectInfo, ObjectStore
from avion_media.common.media import MediaFacts
from avion_media.items.item import WriteOriginal
from avion_media.media.pipeline import MediaSource, Processed
from mediascrub.ranges import pieces


def facts_of(made: Processed, source: MediaSource) -> MediaFacts:
    """Return the facts of the scrubbed original.

    A video of which only ranges were fetched has no SHA-256, because that would require reading all of it.
    """
    return MediaFacts(
        format=made.format,
        size_bytes=source.size_bytes if made.scrubbed_fd is None else made.scrubbed_bytes,
        width=made.width,
        height=made.height,
        blurhash=made.blurhash,
        sha256=made.sha256,
        animated=made.animated,
        duration_s=round(made.duration_s, 3),  # as `MediaFacts.to_metadata` keeps it
        thumbnails=tuple(made.thumbnails),
    )


def scrubbed_file(made: Processed, source: MediaSource) -> tuple[int, int] | None:
    """Return descriptor and length of the scrubbed original, if it is complete."""
    if made.scrubbed_fd is not None:
        return made.scrubbed_fd, made.scrubbed_bytes
    return (source.fd, source.size_bytes) if source.whole else None


def original_writer(
    made: Processed,
    source: MediaSource,
    facts: MediaFacts,
    *,
    source_info: ObjectInfo | None,
    replace: bool = False,
) -> WriteOriginal:
    """Return the function that writes the original: as a new object, or as a copy with patched ranges.

    The original of an upload is written once. That of a remote media item may replace an earlier one (``replace``).
    """

    async def write(store: ObjectStore, key: str, content_type: str, metadata: dict[str, str]) -> None:
        if made.scrubbed_fd is not None or source.whole:
            fd = made.scrubbed_fd if made.scrubbed_fd is not None else source.fd
            await store.put(
                key,
                FileSource(fd, facts.size_bytes, sha256=facts.sha256),
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
            patches=list(pieces(made.patches)),
            content_type=content_type,
            metadata=metadata,
            source_etag=source_info.etag,
            only_if_absent=not replace,
        )

    return write
