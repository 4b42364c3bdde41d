"""The scrub of images: a clean copy, which a second scrub leaves as it is, or a refusal."""

from __future__ import annotations

from avion_media.domain.errors import Rejected
from avion_media.media.scrub import scrub_image
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import IMAGE_FORMATS, images, labelled


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, IMAGE_FORMATS)
    scrubbed = scrub_image(content, fmt)
    assert len(scrubbed) <= 2 * len(content) + 200, "it grew"
    assert scrub_image(scrubbed, fmt) == scrubbed, "a second scrub changes it"


TARGET = parser_target("image-scrub", images, _feed, allowed=(Rejected,))
