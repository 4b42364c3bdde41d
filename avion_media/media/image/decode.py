"""One decode per picture, to opaque pixels of mode L, RGB, YCbCr or CMYK, in the orientation and colours as stored."""

from __future__ import annotations

import io

from PIL import Image, ImageChops
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.media import fit_within
from avion_media.media.image.boundary import rejecting_damage
from avion_media.media.image.gif import GifOutline
from avion_media.media.image.heif import HeifOutline
from avion_media.media.image.jpeg import JpegOutline
from avion_media.media.image.outline import Outline
from avion_media.media.image.png import PngOutline


def decode_image(outline: Outline, longest_edge: int, *, as_ycbcr: bool) -> Image.Image:
    """Decode the first frame, at least as large as a thumbnail of ``longest_edge`` needs.

    Of a JPEG no more than that is decoded: it is shrunk by 2, 4 or 8 inside its inverse DCT; ``as_ycbcr`` spares it the
    way to RGB. Transparency is laid on white. Each format's plugin is called by its name, so nothing ever guesses what
    the bytes might be. The picture carries no metadata (Pillow would write a comment found there into the thumbnail).
    Raises `Rejected`: CORRUPT for anything that does not decode as its outline says, cut off pictures included;
    DECODER_LIMIT.
    """
    with rejecting_damage("decoding"):
        image = _decode(outline, longest_edge, as_ycbcr)
    image.info = {}
    return image


def _decode(outline: Outline, longest_edge: int, as_ycbcr: bool) -> Image.Image:
    if isinstance(outline, JpegOutline):
        return _decode_jpeg(outline, longest_edge, as_ycbcr)
    if isinstance(outline, PngOutline):
        return _decode_png(outline)
    if isinstance(outline, GifOutline):
        return _decode_gif(outline)
    if isinstance(outline, HeifOutline):
        return _on_white(_sized(outline.decode(), outline))
    return _on_white(_loaded(WebPImageFile(io.BytesIO(outline.pixels)), outline))


def _decode_jpeg(outline: JpegOutline, longest_edge: int, as_ycbcr: bool) -> Image.Image:
    image = JpegImageFile(io.BytesIO(outline.pixels))
    _sized(image, outline)
    # The box must have the picture's aspect: Pillow picks the scale by the side that shrinks least.
    image.draft(
        "YCbCr" if as_ycbcr and outline.ycbcr else None, fit_within(outline.width, outline.height, longest_edge)
    )
    image.load()
    return image


def _decode_png(outline: PngOutline) -> Image.Image:
    image: Image.Image = _loaded(PngImageFile(io.BytesIO(outline.pixels)), outline)
    if image.mode == "I;16":
        # Pillow's own conversion clips at 255; the raw decoder takes the high byte of each sample.
        image = Image.frombytes("L", image.size, image.tobytes(), "raw", "L;16")
    elif image.mode == "1":
        image = image.convert("L")
    if outline.transparent is None:
        return _on_white(image)
    differs = [
        band.point([0 if level == clear else 255 for level in range(256)])
        for band, clear in zip(image.split(), outline.transparent, strict=True)
    ]
    opaque = differs[0]
    for band in differs[1:]:
        opaque = ImageChops.lighter(opaque, band)
    return _paste_on_white(image, opaque)


def _decode_gif(outline: GifOutline) -> Image.Image:
    image = _on_white(_loaded(GifImageFile(io.BytesIO(outline.pixels)), outline))
    if outline.first_frame == (0, 0, *image.size):
        return image
    # What the first frame does not cover is transparent to browsers; Pillow fills it with a colour of the palette.
    canvas = Image.new(image.mode, image.size, "white")
    canvas.paste(image.crop(outline.first_frame), outline.first_frame[:2])
    return canvas


def _loaded(image: Image.Image, outline: Outline) -> Image.Image:
    _sized(image, outline).load()
    return image


def _sized(image: Image.Image, outline: Outline) -> Image.Image:
    """Where the decoder sees another size than our walk did, one of them was led astray on purpose."""
    if image.size != (outline.width, outline.height):
        raise Rejected(Reason.CORRUPT, f"outlined as {outline.width}x{outline.height}, decoder says {image.size}")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """The picture without transparency: L, RGB, YCbCr and CMYK as they are, everything else laid on white."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode == "L" and "transparency" in image.info:
        image = image.convert("LA")
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA"):
        opaque = image.getchannel("A")
        image = image.convert(image.mode.removesuffix("A"))  # the name lets go of the decoder and its own two copies
        return _paste_on_white(image, opaque)
    if image.mode not in ("L", "RGB"):
        raise Rejected(Reason.CORRUPT, f"pixels of an unexpected kind: {image.mode}")
    return image


def _paste_on_white(image: Image.Image, opaque: Image.Image) -> Image.Image:
    if opaque.getextrema() == (255, 255):
        return image
    canvas = Image.new(image.mode, image.size, "white")
    canvas.paste(image, mask=opaque)
    return canvas
