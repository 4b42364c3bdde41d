"""The formats of pictures, a module each: what they are, what stays of them, and what a decoder gets.

Pure, synchronous functions on untrusted bytes. `peek` runs in the service, `read_picture` in the sandbox; neither needs
an imaging library.
"""

from __future__ import annotations

from collections.abc import Mapping

from avion_media.domain import formats
from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import MediaFormat
from avion_media.media.bounds import PictureBounds
from avion_media.media.formats import gif, heif, jpeg, png, webp
from avion_media.media.formats.picture import Peek, Picture, PictureFormat

__all__ = ["PEEK_BYTES", "Peek", "Picture", "peek", "read_picture"]

PEEK_BYTES = 1 << 20
"""What `peek` wants to see: profiles and previews may go before a JPEG's frame header."""

_FORMATS: Mapping[str, PictureFormat] = {
    formats.JPEG.name: jpeg,
    formats.PNG.name: png,
    formats.GIF.name: gif,
    formats.WEBP.name: webp,
    formats.AVIF.name: heif.AVIF,
    formats.HEIC.name: heif.HEIC,
}


def peek(head: bytes, fmt: MediaFormat) -> Peek | None:
    """Size and decode cost of a picture by its first `PEEK_BYTES`. Never raises; None if they do not say.

    It believes the header. Whoever lies there gains nothing: the job compares with what it finds, and the sandbox holds
    it to what it was granted.
    """
    return _FORMATS[fmt.name].peek(head)


def read_picture(view: memoryview, fmt: MediaFormat, bounds: PictureBounds) -> Picture:
    """Read a picture of format ``fmt``, which is what `sniff` found.

    Nothing is decoded; time and memory are linear in the length. The original is rarely longer than ``view`` (by a few
    dozen bytes at most). A file that was cut short inside its picture data stays cut short there, so that a decoder
    says of the original what it says of the upload.

    Raises `Rejected`: CORRUPT for a structure that no decoder could follow, UNSUPPORTED_TYPE for one that needs
    features which are not on the list (and for a format that is no picture), and what `Picture.check` raises.
    """
    known = _FORMATS.get(fmt.name)
    if known is None:
        raise Rejected(Reason.UNSUPPORTED_TYPE, f"{fmt.name} is no format of pictures")
    if not view:
        raise Rejected(Reason.EMPTY, "no bytes")
    picture = known.read(view, bounds)
    picture.check(bounds)
    return picture
