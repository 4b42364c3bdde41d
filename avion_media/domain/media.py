"""What is known of a media item, and how it is written as the object's user metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from avion_media.domain.formats import BY_NAME, MediaFormat


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Facts about one media item, all from its content, never as declared.

    ``width`` and ``height`` are pixels as displayed (orientation, rotation and pixel aspect applied);
    ``duration_s`` is 0.0 for stills; ``sha256`` is that of the scrubbed original, in hex, or empty where it was not
    computed: of a large video only some ranges are read. ``thumbnails`` names the sizes that were made of it, which
    can differ from today's configuration, with ``.webp`` behind those that were made as WebP too; it is empty
    where an earlier version did not write them down.
    """

    format: MediaFormat
    size_bytes: int
    width: int
    height: int
    blurhash: str
    sha256: str
    animated: bool = False
    duration_s: float = 0.0
    thumbnails: tuple[str, ...] = ()

    def to_metadata(self) -> dict[str, str]:
        """User metadata for the object store (ASCII keys and values).

        ``type`` is for others who read it; `facts_from_metadata` goes by ``format``, as older originals have only that.
        """
        metadata = {
            "type": self.format.content_type,
            "format": self.format.name,
            "width": str(self.width),
            "height": str(self.height),
            "blurhash": self.blurhash,
            "animated": "1" if self.animated else "0",
            "duration": f"{self.duration_s:.3f}",
        }
        if self.sha256:
            metadata["sha256"] = self.sha256
        if self.thumbnails:
            metadata["thumbnails"] = ",".join(self.thumbnails)
        return metadata

    def is_of_same_file(self, other: MediaFacts) -> bool:
        """Whether all that comes from the content is the same; the sizes come from the configuration."""
        return replace(self, thumbnails=()) == replace(other, thumbnails=())


def facts_from_metadata(metadata: Mapping[str, str], size_bytes: int) -> MediaFacts | None:
    """Read back what `MediaFacts.to_metadata` wrote; None when it is not ours or damaged."""
    try:
        return MediaFacts(
            format=BY_NAME[metadata["format"]],
            size_bytes=size_bytes,
            width=int(metadata["width"]),
            height=int(metadata["height"]),
            blurhash=metadata.get("blurhash", ""),
            sha256=metadata.get("sha256", ""),
            animated=metadata.get("animated") == "1",
            duration_s=float(metadata.get("duration", "0")),
            thumbnails=parse_size_names(metadata.get("thumbnails", "")),
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class ThumbnailSize:
    """A named thumbnail size: longest edge in pixels, never enlarged."""

    name: str
    longest_edge: int


FULL_SIZE = ThumbnailSize("full", 4096)
"""Made beside the configured sizes of an image whose format most browsers cannot show: what they show instead."""
WEBP_SUFFIX = ".webp"
"""Behind a size's name: its thumbnail as WebP. Without, it is a JPEG."""


def is_size_name(text: str) -> bool:
    """Whether a thumbnail size can have this name. It becomes a part of keys and URLs."""
    return re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", text) is not None


def parse_size_names(text: str) -> tuple[str, ...]:
    """The names of thumbnails in a list with commas; what cannot be one is left out."""
    return tuple(name for name in text.split(",") if is_size_name(name.removesuffix(WEBP_SUFFIX)))


def in_all_formats(names: Iterable[str]) -> tuple[str, ...]:
    """The names of all thumbnails that there can be in the sizes of these."""
    sizes = dict.fromkeys(name.removesuffix(WEBP_SUFFIX) for name in names)
    return tuple(f"{size}{suffix}" for size in sizes for suffix in ("", WEBP_SUFFIX))


def possible_sizes(configured: Iterable[ThumbnailSize]) -> tuple[str, ...]:
    """The names of all thumbnails that an attempt may have left of a media item of which nothing is known."""
    return in_all_formats(size.name for size in (*configured, FULL_SIZE))


def sizes_of(facts: MediaFacts | None, configured: Iterable[ThumbnailSize]) -> tuple[str, ...]:
    """The names of the sizes that a media item has: those that were made of it or, if that is not known, the
    configured."""
    return facts.thumbnails if facts is not None and facts.thumbnails else tuple(size.name for size in configured)


def fit_within(width: int, height: int, longest_edge: int) -> tuple[int, int]:
    """The thumbnail's dimensions: aspect kept, never enlarged, no side below one pixel."""
    longest = max(width, height)
    if longest <= longest_edge:
        return width, height
    return max(1, round(width * longest_edge / longest)), max(1, round(height * longest_edge / longest))
