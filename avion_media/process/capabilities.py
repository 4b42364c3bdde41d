"""What clients may upload here, and what they get: for GetCapabilities and for ``/capabilities`` at the origin."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from avion_media.common.formats import FORMATS
from avion_media.common.parts import MULTIPART_THRESHOLD_BYTES
from avion_media.process.settings import ProcessSettings


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The fields are those of the contract's message. ``max_duration`` is in seconds."""

    max_image_bytes: int
    max_video_bytes: int
    max_pixels: int
    max_duration: float
    content_types: tuple[str, ...]
    thumbnail_sizes: dict[str, int]
    multipart: bool
    multipart_threshold: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def capabilities_of(config: ProcessSettings, *, multipart: bool) -> Capabilities:
    """Return what this configuration allows. ``multipart``: the object store can be trusted with uploads in parts."""
    enabled = config.decoders.enabled()
    upload = config.upload
    return Capabilities(
        max_image_bytes=upload.max_image_bytes,
        max_video_bytes=upload.max_video_bytes,
        max_pixels=upload.max_pixels,
        max_duration=upload.max_duration,
        content_types=tuple(
            content_type
            for fmt in FORMATS
            if fmt.name in enabled
            for content_type in (fmt.content_type, *fmt.other_content_types)
        ),
        thumbnail_sizes={size.name: size.longest_edge for size in config.thumbnails.sizes},
        multipart=multipart,
        multipart_threshold=MULTIPART_THRESHOLD_BYTES,
    )
