"""Whole images to thumbnails: the decoders of Pillow and libvips behind our readers."""

from __future__ import annotations

from avion_media.common.errors import Rejected
from avion_media.media.jobs import require_memory
from mediascrub import ScrubError, read_picture
from mediascrub.bounds import PictureBounds
from mediathumbs import ThumbnailSize, vips
from mediathumbs.pictures import make_thumbnails
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import IMAGE_FORMATS, images, labelled

vips.allow_png()
vips.allow_webp()
_BOUNDS = PictureBounds(max_pixels=1_000_000, max_frames=50)
_MAX_MEMORY_BYTES = 64 << 20
_SIZES = [ThumbnailSize("only", 64)]


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, IMAGE_FORMATS)
    picture = read_picture(memoryview(content), fmt, _BOUNDS)
    require_memory(picture, _MAX_MEMORY_BYTES)
    make_thumbnails(picture, _SIZES)


TARGET = parser_target("image-thumbnails", images, _feed, allowed=(ScrubError, Rejected, MemoryError), max_cpu_s=5.0)
