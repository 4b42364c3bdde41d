"""One decode per picture, in the orientation and colours as stored."""

from __future__ import annotations

import io

import pyvips
from PIL import AvifImagePlugin, Image
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile

from mediascrub import Format, Picture, ScrubCode, ScrubError
from mediathumbs import vips
from mediathumbs.pixels import Pixels, Size
from mediathumbs.planes import Planes, decode_planes
from mediathumbs.results import fit_within

AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def decode_image(picture: Picture, longest_edge: int, *, as_ycbcr: bool) -> Pixels | Planes:
    """Decode the first frame, at least as large as a thumbnail of ``longest_edge`` needs, without its metadata.

    With ``as_ycbcr``, usual pictures come in planes. Any other JPEG is reduced by 2, 4 or 8 inside its inverse DCT, any
    other WebP by its decoder, row by row. Any other PNG is not decoded here, but while its pixels are scaled.
    No library may guess the type of the bytes. Raises the errors of the libraries, and `ScrubError` (CORRUPT).
    """
    # The box must have the picture's aspect, because the scale is selected by the side that shrinks least.
    box = fit_within(picture.width, picture.height, longest_edge)
    if as_ycbcr and (planes := decode_planes(picture, box)) is not None:
        return planes
    if picture.format in (Format.PNG, Format.WEBP):
        if picture.format not in vips.ALLOWED:
            raise ScrubError(ScrubCode.UNSUPPORTED, f"the decoder of {picture.format} is not allowed")
        return _decode_by_vips(picture, longest_edge)
    if picture.format is Format.JPEG:
        return Pixels.of_pillow(_decode_jpeg(picture, box, as_ycbcr))
    return Pixels.of_pillow(_DECODERS[picture.format](picture))


def _decode_jpeg(picture: Picture, box: Size, as_ycbcr: bool) -> Image.Image:
    image = _sized(JpegImageFile(io.BytesIO(picture.still)), picture)
    image.draft("YCbCr" if as_ycbcr and picture.ycbcr else None, box)
    image.load()
    return image


def _decode_gif(picture: Picture) -> Image.Image:
    image = _plain(_sized(GifImageFile(io.BytesIO(picture.still)), picture))
    if picture.first_frame == (0, 0, *image.size):
        return image
    # In browsers the area outside the first frame is transparent. Pillow fills it with a colour of the palette.
    canvas = Image.new("RGBA", image.size)
    canvas.paste(image.crop(picture.first_frame), picture.first_frame[:2])
    return canvas


def _decode_by_vips(picture: Picture, longest_edge: int) -> Pixels:
    scale = 1.0
    if picture.format is Format.PNG:
        image = pyvips.Image.pngload_buffer(picture.still, access="sequential", fail_on="truncated")
    else:
        longest, shortest = max(picture.width, picture.height), min(picture.width, picture.height)
        scale = min(1.0, max(longest_edge / longest, 1 / shortest))  # its decoder makes no side shorter than a pixel
        image = pyvips.Image.webpload_buffer(picture.still, memory=True, fail_on="truncated", scale=scale)
    return Pixels.of_vips(_sized(image, picture, scale), "L" if image.bands <= 2 else "RGB")


def _decode_avif(picture: Picture) -> Image.Image:
    """Decode by libavif, on the calling thread."""
    opened = AvifImagePlugin.AvifImageFile(io.BytesIO(picture.still))
    if opened.n_frames != picture.frames:
        raise ScrubError(ScrubCode.CORRUPT, f"read as {picture.frames} frames, decoder says {opened.n_frames}")
    return _plain(_sized(opened, picture))


def _decode_heic(picture: Picture) -> Image.Image:
    """Decode by libheif, which is optional. Its HEVC decoder starts a thread per tile, whatever its settings."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ScrubError(ScrubCode.UNSUPPORTED, "pillow_heif is not installed") from error
    options = pillow_heif.options
    options.DECODE_THREADS = 1
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    file = pillow_heif.HeifFile(io.BytesIO(picture.still), convert_hdr_to_8bit=True)
    return _plain(_sized(file[file.primary_index].to_pillow(), picture))


def _sized(image: Image.Image, picture: Picture, scale: float = 1.0) -> Image.Image:
    """Return the image, if its decoder saw the size that our reader saw; else the file misled one on purpose."""
    size, full_size = (image.width, image.height), (picture.width, picture.height)
    # One that scales rounds, and does not reduce an animation of one frame.
    tolerance = 1 if scale < 1 else 0
    deviation = max(abs(got - scale * full) for got, full in zip(size, full_size, strict=True))
    if size != full_size and deviation > tolerance:
        raise ScrubError(ScrubCode.CORRUPT, f"read as {picture.width}x{picture.height}, decoder says {size}")
    return image


def _plain(image: Image.Image) -> Image.Image:
    """Decode the picture. Return it without a palette, with its opacity as a channel."""
    image.load()
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "L" and "transparency" in image.info:
        return image.convert("LA")
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    if image.mode not in ("L", "RGB", "LA", "RGBA"):
        raise ScrubError(ScrubCode.CORRUPT, f"pixels of an unexpected kind: {image.mode}")
    return image


_DECODERS = {Format.GIF: _decode_gif, Format.AVIF: _decode_avif, Format.HEIC: _decode_heic}
