"""Sentences about failures for the person who uploads, with this server's limits in them."""

from __future__ import annotations

from avion_media.common.errors import SENTENCES, Reason
from avion_media.common.settings import format_size
from avion_media.media.settings import UploadConfig
from mediascrub import PictureBounds

PICTURE_BOUNDS = PictureBounds()


def sentences(upload: UploadConfig) -> dict[Reason, str]:
    """Return a sentence for each reason."""
    limits = {
        "max_image_bytes": format_size(upload.max_image_bytes),
        "max_video_bytes": format_size(upload.max_video_bytes),
        "max_audio_bytes": format_size(upload.max_audio_bytes),
        "max_audio_duration": _duration(upload.max_audio_duration),
        "max_pixels": f"{upload.max_pixels:,}",
        "max_duration": _duration(upload.max_duration),
        "max_side": f"{PICTURE_BOUNDS.max_side:,}",
        "max_aspect": f"{PICTURE_BOUNDS.max_aspect:,.0f}",
        "max_frames": f"{PICTURE_BOUNDS.max_frames:,}",
    }
    return {reason: sentence.format(**limits) for reason, sentence in SENTENCES.items()}


def _duration(seconds: float) -> str:
    """Return a duration in the largest unit that divides it."""
    for unit, unit_s in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:,.0f} seconds"
