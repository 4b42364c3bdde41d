"""The readers of pictures: a clean original that is read as the same again, or a refusal."""

from __future__ import annotations

from mediascrub import PEEK_BYTES, Format, Picture, ScrubError, peek, read_picture
from mediascrub.bounds import PictureBounds
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import IMAGE_FORMATS, check_credentials, images, labelled

_BOUNDS = PictureBounds(max_pixels=4_000_000, max_frames=200)


def _feed(data: bytes) -> None:
    fmt, content = labelled(data, IMAGE_FORMATS)
    peek(content[:PEEK_BYTES], fmt)
    picture = _read(content, fmt)
    assert len(picture.original) <= 2 * len(content) + 200, "it grew"
    again = _read(picture.original, fmt)
    assert _facts(again) == _facts(picture), "a second reading finds something else"
    assert again.credentials is None, "credentials stay"
    if picture.credentials is not None:
        check_credentials(picture.credentials, content)


def _read(content: bytes, fmt: Format) -> Picture:
    return read_picture(memoryview(content), fmt, _BOUNDS)


def _facts(picture: Picture) -> tuple[object, ...]:
    return (
        picture.original,
        picture.still,
        picture.displayed_size,
        picture.orientation,
        picture.frames,
        picture.duration_s,
        picture.colour,
    )


TARGET = parser_target("picture-read", images, _feed, allowed=(ScrubError,))
