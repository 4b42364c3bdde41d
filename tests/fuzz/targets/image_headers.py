"""The walks over image files, and the forecast of what their decode costs."""

from __future__ import annotations

import os

from avion_media.domain.errors import Rejected
from avion_media.media.bounds import PictureBounds
from avion_media.media.image import forecast_bytes
from avion_media.media.image.header import read_outline
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import IMAGE_FORMATS, images, labelled

_BOUNDS = PictureBounds(max_pixels=4_000_000, max_frames=200)


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, IMAGE_FORMATS)
    spool = os.memfd_create("fuzz")
    try:
        os.write(spool, content)
        assert forecast_bytes(spool, fmt, len(content)) > 0
    finally:
        os.close(spool)
    read_outline(content, fmt, _BOUNDS)


TARGET = parser_target("image-headers", images, _feed, allowed=(Rejected,))
