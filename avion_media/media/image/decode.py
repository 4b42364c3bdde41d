"""One decode per picture, to opaque pixels of mode L, RGB, YCbCr or CMYK, in the orientation and colours as stored."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

from PIL import AvifImagePlugin, Image, ImageChops
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from avion_media.domain.errors import Reason, Rejected
from avion_media.domain.formats import AVIF, HEIC, WEBP
from avion_media.domain.media import fit_within
from avion_media.media.formats.gif import GifPicture
from avion_media.media.formats.jpeg import JpegPicture
from avion_media.media.formats.picture import Picture
from avion_media.media.formats.png import PngPicture
from avion_media.media.image.boundary import rejecting_damage

AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode_image(picture: Picture, longest_edge: int, *, as_ycbcr: bool) -> Image.Image:
    """Decode the first frame, at least as large as a thumbnail of ``longest_edge`` needs.

    Of a JPEG no more than that is decoded: it is shrunk by 2, 4 or 8 inside its inverse DCT; ``as_ycbcr`` spares it the
    way to RGB. Transparency is laid on white. Each format's plugin is called by its name, so nothing ever guesses what
    the bytes might be. The picture carries no metadata (Pillow would write a comment found there into the thumbnail).
    Raises `Rejected`: CORRUPT for anything that does not decode as its structure says, cut off pictures included;
    DECODER_LIMIT.
    """
    with rejecting_damage("decoding"):
        image = _decode(picture, longest_edge, as_ycbcr)
    image.info = {}
    return image


def _decode(picture: Picture, longest_edge: int, as_ycbcr: bool) -> Image.Image:
    if isinstance(picture, JpegPicture):
        return _decode_jpeg(picture, longest_edge, as_ycbcr)
    if isinstance(picture, PngPicture):
        return _decode_png(picture)
    if isinstance(picture, GifPicture):
        return _decode_gif(picture)
    return _on_white(_DECODERS[picture.format.name](picture))


def _decode_jpeg(picture: JpegPicture, longest_edge: int, as_ycbcr: bool) -> Image.Image:
    image = JpegImageFile(io.BytesIO(picture.still))
    _sized(image, picture)
    # The box must have the picture's aspect: Pillow picks the scale by the side that shrinks least.
    image.draft(
        "YCbCr" if as_ycbcr and picture.ycbcr else None, fit_within(picture.width, picture.height, longest_edge)
    )
    image.load()
    return image


def _decode_png(picture: PngPicture) -> Image.Image:
    image: Image.Image = _loaded(PngImageFile(io.BytesIO(picture.still)), picture)
    if image.mode == "I;16":
        # Pillow's own conversion clips at 255; the raw decoder takes the high byte of each sample.
        image = Image.frombytes("L", image.size, image.tobytes(), "raw", "L;16")
    elif image.mode == "1":
        image = image.convert("L")
    if picture.transparent is None:
        return _on_white(image)
    differs = [
        band.point([0 if level == clear else 255 for level in range(256)])
        for band, clear in zip(image.split(), picture.transparent, strict=True)
    ]
    opaque = differs[0]
    for band in differs[1:]:
        opaque = ImageChops.lighter(opaque, band)
    return _paste_on_white(image, opaque)


def _decode_gif(picture: GifPicture) -> Image.Image:
    image = _on_white(_loaded(GifImageFile(io.BytesIO(picture.still)), picture))
    if picture.first_frame == (0, 0, *image.size):
        return image
    # What the first frame does not cover is transparent to browsers; Pillow fills it with a colour of the palette.
    canvas = Image.new(image.mode, image.size, "white")
    canvas.paste(image.crop(picture.first_frame), picture.first_frame[:2])
    return canvas


def _decode_webp(picture: Picture) -> Image.Image:
    return _loaded(WebPImageFile(io.BytesIO(picture.still)), picture)


def _decode_avif(picture: Picture) -> Image.Image:
    """By libavif, on the thread that it is called on."""
    opened = AvifImagePlugin.AvifImageFile(io.BytesIO(picture.still))
    if opened.n_frames != picture.frames:
        raise Rejected(Reason.CORRUPT, f"read as {picture.frames} frames, decoder says {opened.n_frames}")
    return _loaded(opened, picture)


def _decode_heic(picture: Picture) -> Image.Image:
    """By libheif, which is optional, and imported only when a HEIC is at hand.

    Its HEVC decoder starts a thread per tile whatever it is told, so a sandbox must allow threads, and must have loaded
    pillow_heif before it closes.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise Rejected(Reason.UNSUPPORTED_TYPE, "pillow_heif is not installed") from error
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    file = pillow_heif.HeifFile(io.BytesIO(picture.still), convert_hdr_to_8bit=True)
    image = file[file.primary_index].to_pillow()
    if not isinstance(image, Image.Image):
        raise TypeError("libheif gave no picture")
    return _sized(image, picture)


_DECODERS: Mapping[str, Callable[[Picture], Image.Image]] = {
    WEBP.name: _decode_webp,
    AVIF.name: _decode_avif,
    HEIC.name: _decode_heic,
}


def _loaded(image: Image.Image, picture: Picture) -> Image.Image:
    _sized(image, picture).load()
    return image


def _sized(image: Image.Image, picture: Picture) -> Image.Image:
    """Where the decoder sees another size than our walk did, one of them was led astray on purpose."""
    if image.size != (picture.width, picture.height):
        raise Rejected(Reason.CORRUPT, f"read as {picture.width}x{picture.height}, decoder says {image.size}")
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
