"""What is known of a medium, and how it is written as the object's user metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from avion_media.domain.formats import BY_NAME, MediaFormat


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Facts about one medium, all from its content, never as declared.

    ``width`` and ``height`` are pixels as displayed (orientation, rotation and pixel aspect applied);
    ``duration_s`` is 0.0 for stills; ``sha256`` is that of the scrubbed original, in hex, or empty where it was not
    computed: of a large video only some ranges are read.
    """

    format: MediaFormat
    size_bytes: int
    width: int
    height: int
    blurhash: str
    sha256: str
    animated: bool = False
    duration_s: float = 0.0

    def to_metadata(self) -> dict[str, str]:
        """User metadata for the object store (ASCII keys and values)."""
        metadata = {
            "format": self.format.name,
            "width": str(self.width),
            "height": str(self.height),
            "blurhash": self.blurhash,
            "animated": "1" if self.animated else "0",
            "duration": f"{self.duration_s:.3f}",
        }
        if self.sha256:
            metadata["sha256"] = self.sha256
        return metadata


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
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class ThumbnailSize:
    """A named thumbnail size: longest edge in pixels, never enlarged."""

    name: str
    longest_edge: int


def fit_within(width: int, height: int, longest_edge: int) -> tuple[int, int]:
    """The thumbnail's dimensions: aspect kept, never enlarged, no side below one pixel."""
    longest = max(width, height)
    if longest <= longest_edge:
        return width, height
    return max(1, round(width * longest_edge / longest)), max(1, round(height * longest_edge / longest))
