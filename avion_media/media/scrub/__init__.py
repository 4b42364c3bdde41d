"""The original as it is served: the picture as uploaded, and nothing about who made it, where, or with what.

Every format has an allow list. What a decoder needs to show the same pixels stays: coded data byte for byte, the
numbers of an ICC profile, orientation, animation. Everything else goes, known or not. Nothing is decoded or encoded
again, so what hides inside coded data (SEI messages, metadata OBUs, bits after the last block of a scan) is out of
reach.
"""

from __future__ import annotations

from collections.abc import Callable

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import AVIF, GIF, HEIC, JPEG, PNG, WEBP, MediaFormat
from avion_media.media.scrub.gif import scrub_gif
from avion_media.media.scrub.heif import scrub_heif
from avion_media.media.scrub.jpeg import scrub_jpeg
from avion_media.media.scrub.png import scrub_png
from avion_media.media.scrub.webp import scrub_webp

__all__ = ["scrub_image"]

_SCRUBBERS: dict[str, Callable[[memoryview], bytes]] = {
    JPEG.name: scrub_jpeg,
    PNG.name: scrub_png,
    GIF.name: scrub_gif,
    WEBP.name: scrub_webp,
    AVIF.name: scrub_heif,
    HEIC.name: scrub_heif,
}


def scrub_image(data: bytes | memoryview, fmt: MediaFormat) -> bytes:
    """The file without private metadata; decoded pixels and their colours, orientation and animation are unchanged.

    ``fmt`` is what `sniff` said. The result is rarely longer than ``data`` (by a few dozen bytes at most), scrubbing
    it again changes nothing, and time and memory are linear in the length. A file that was cut short inside its
    picture data stays cut short there, so that a decoder says of the copy what it says of the upload.

    Raises `Rejected`: CORRUPT for a structure that no decoder could follow, UNSUPPORTED_TYPE for one that needs
    features which are not on the list (and for a format that is no image).
    """
    scrubber = _SCRUBBERS.get(fmt.name)
    if scrubber is None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"no scrubber for {fmt.name}")
    return scrubber(memoryview(data).cast("B"))
