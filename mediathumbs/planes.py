"""Pictures in planes of luma and chroma, as JPEGs store them: libjpeg-turbo makes and writes them, swscale scales them.

The functions are those of turbojpeg.h 2.1, and of decode.h 1.0.
Without libjpeg-turbo no picture comes into planes, without libwebp no WebP.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any, Final

import deflate
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from PIL import Image

from mediascrub import Format, Picture
from mediascrub.jpeg import END
from mediascrub.picture import turned_size
from mediathumbs import vips
from mediathumbs.libav import filtered, rgb_of
from mediathumbs.pixels import Pixels, Size, webp_of
from mediathumbs.png_rows import with_stored_rows
from mediathumbs.results import LIBRARIES_OF_SYSTEM

_YCBCR, _RGB = 1, 0  # TJCS_YCbCr, TJPF_RGB
_SAMPLING: Final = {0: "yuvj444p", 1: "yuvj422p", 2: "yuvj420p", 4: "yuvj440p", 5: "yuvj411p"}  # TJSAMP_*
_OF_WEBP: Final = "yuv420p"  # luma from 16 to 235, as in television; that of a JPEG is from 0 to 255
# Bicubic, and bilinear for chroma: a sixteenth less CPU in all than with Lanczos, and 0.0001 less SSIM.
_OF_WEBP_SCALED: Final = "bicublin+accurate_rnd"
_OUTPUT, _OUTPUT_SAMPLING = "yuvj420p", 2
NARROWEST: Final = 16  # side of a thumbnail that is scaled here: swscale cuts off kernels that are longer than a plane
_MCU: Final = 32  # the largest block of the samplings: planes are written in whole blocks
_TURNS = {2: "hflip", 3: "hflip vflip", 4: "vflip"}
_TURNS |= {5: "transpose=cclock_flip", 6: "transpose=clock", 7: "transpose=clock_flip", 8: "transpose=cclock"}
_MAX_PNG_PIXELS: Final = 16_000_000  # the pixels are held three times; larger pictures are decoded row by row

_Three = ctypes.c_void_p * 3
_Strides = ctypes.c_int * 3
_ADDRESS, _NUMBER, _SIZE, _OUT = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)


def _open(name: str, **functions: tuple[Any, ...]) -> Any:
    """Return a library of the system with the types of its ``functions``: result, arguments. None without it."""
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    for function, (result, *arguments) in functions.items():
        getattr(library, function).restype, getattr(library, function).argtypes = result, arguments
    return library


_FILE: Final = (_ADDRESS, ctypes.c_char_p, ctypes.c_ulong)
_IMAGE: Final = (_Three, _NUMBER, _Strides, _NUMBER)
_RESULT: Final = (ctypes.POINTER(_ADDRESS), ctypes.POINTER(ctypes.c_ulong))
_LIBRARY: Final = _open(
    LIBRARIES_OF_SYSTEM["libturbojpeg"],
    tjInitDecompress=(_ADDRESS,),
    tjInitCompress=(_ADDRESS,),
    tjDecompressHeader3=(_NUMBER, *_FILE, _OUT, _OUT, _OUT, _OUT),
    tjDecompressToYUVPlanes=(_NUMBER, *_FILE, *_IMAGE, _NUMBER),
    tjEncodeYUVPlanes=(_NUMBER, *[_ADDRESS] * 2, *[_NUMBER] * 4, _Three, _Strides, _NUMBER, _NUMBER),
    tjCompressFromYUVPlanes=(_NUMBER, _ADDRESS, *_IMAGE, _NUMBER, *_RESULT, _NUMBER, _NUMBER),
    tjFree=(None, _ADDRESS),
    tjDestroy=(_NUMBER, _ADDRESS),
)
_WEBP: Final = _open(
    LIBRARIES_OF_SYSTEM["libwebp"],
    WebPGetInfo=(_NUMBER, ctypes.c_char_p, _SIZE, _OUT, _OUT),
    WebPDecodeYUVInto=(_ADDRESS, ctypes.c_char_p, _SIZE, *(_ADDRESS, _SIZE, _NUMBER) * 3),
)
_ENCODER: Final = _LIBRARY and _LIBRARY.tjInitCompress()


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture in sRGB, of ``size``, in the left upper corner of ``frame``. Has methods of `Pixels`.

    ``finished``: it is in the format of the output, and its last columns and rows are repeated up to an even size.
    """

    frame: VideoFrame
    size: Size
    has_alpha: bool = False
    finished: bool = False

    def scaled(self, size: Size) -> Planes:
        """Return the picture at ``size``, with half of the chroma samples each way."""
        if self.finished and size == self.size:
            return self
        sampling = self.frame.format
        steps = [8 // chroma(8) for chroma in (sampling.chroma_width, sampling.chroma_height)]
        (width, to_width), (height, to_height) = map(_in_proportion, self.size, size, steps)
        of_webp = sampling.name == _OF_WEBP
        size_and_levels = f"w={to_width}:h={to_height}:in_range={'tv' if of_webp else 'pc'}:out_range=pc"
        scaling = _scaling(steps[0], steps[1], kernel=_OF_WEBP_SCALED if of_webp else "lanczos")
        scale = f"{size_and_levels}:out_h_chr_pos=128:out_v_chr_pos=128:{scaling}"
        frame = filtered(self.frame, *self._extended((width, height)), ("scale", scale), ("format", _OUTPUT))
        return Planes(frame, size, finished=True)

    def upright(self, orientation: int) -> Planes:
        """Return the picture turned upright from an Exif ``orientation``."""
        if orientation not in _TURNS:
            return self
        even, turned = _even(self.size), turned_size(self.size, orientation)
        turns = (each.partition("=")[::2] for each in _TURNS[orientation].split())
        picture = Planes(filtered(self.frame, *self._extended(even), *turns), turned, finished=True)
        # On a side that is mirrored, the repeated column or row comes first, and shares its chroma with the next.
        x, y = turned[0] % 2 * (orientation in (2, 3, 6, 7)), turned[1] % 2 * (orientation in (3, 4, 7, 8))
        if not x and not y:
            return picture
        filters = *picture._extended(_even(turned), x, y), ("scale", _scaling(2, 2, x, y)), ("format", "yuvj444p")
        return Planes(filtered(picture.frame, *filters), turned)

    def _extended(self, size: Size, x: int = 0, y: int = 0) -> list[tuple[str, str]]:
        """Return filters that cut out the picture, from ``x`` and ``y`` on, and repeat its ends up to ``size``."""
        (width, height), (right, bottom) = size, (max(0, size[0] - self.size[0]), max(0, size[1] - self.size[1]))
        filters = [("crop", f"w={width}:h={height}:x={x}:y={y}:exact=1")]
        if width + x > self.frame.width or height + y > self.frame.height:
            pad = max(width + 2 * x, self.frame.width), max(height + 2 * y, self.frame.height)
            filters.insert(0, ("pad", "w={}:h={}".format(*pad)))
        if right or bottom:
            filters.append(("fillborders", f"right={right}:bottom={bottom}:mode=smear"))
        return filters

    def on_white(self) -> Image.Image:
        """Return the picture, which has no opacity, in RGB."""
        return rgb_of(self.frame, ("crop", f"w={self.size[0]}:h={self.size[1]}:x=0:y=0:exact=1"))

    def jpeg(self, quality: int) -> bytes:
        """Return the picture as a baseline JPEG, 4:2:0, with no metadata."""
        (width, height), data, length = self.size, ctypes.c_void_p(), ctypes.c_ulong()
        planes, strides = _pointers(self.frame)
        picture = planes, width, strides, height, _OUTPUT_SAMPLING
        if _LIBRARY.tjCompressFromYUVPlanes(_ENCODER, *picture, data, length, quality, 0) != 0:
            raise MemoryError("libjpeg-turbo encodes no picture")
        jpeg = ctypes.string_at(data, length.value)
        _LIBRARY.tjFree(data)
        return jpeg

    def webp(self, quality: int) -> bytes:
        """Return the picture as a WebP, with no metadata."""
        return webp_of(self.on_white(), quality)


def in_planes(pixels: Pixels | Planes) -> Pixels | Planes:
    """Return an opaque picture in RGB in planes, as an encoder of JPEG would. Return any other as it is."""
    if _LIBRARY is None or isinstance(pixels, Planes) or pixels.mode != "RGB" or pixels.has_alpha:
        return pixels
    samples = pixels.computed()
    source = samples if isinstance(samples, bytes) else (ctypes.c_ubyte * len(samples)).from_buffer(samples)
    return _planes_of(source, 3 * pixels.size[0], pixels.size)


def _planes_of(rgb: Any, row_bytes: int, size: Size) -> Planes:
    frame = _frame_for(size, _OUTPUT)
    target = *_pointers(frame), _OUTPUT_SAMPLING
    if _LIBRARY.tjEncodeYUVPlanes(_ENCODER, rgb, size[0], row_bytes, size[1], _RGB, *target, 0) != 0:
        raise MemoryError("libjpeg-turbo makes no planes")
    return Planes(frame, size)


def decode_planes(picture: Picture, wanted: Size) -> Planes | None:
    """Decode a picture in sRGB, no smaller than ``wanted``; None if it is unusual, or the decoder complains."""
    if _LIBRARY is not None and picture.format is Format.JPEG and picture.ycbcr:
        return _jpeg_in_planes(picture, wanted)
    if _LIBRARY is not None and picture.format in vips.ALLOWED:
        if picture.ycbcr and _WEBP is not None:
            return _webp_in_planes(picture)
        return _png_in_planes(picture) if picture.format is Format.PNG else None
    return None


def with_its_end(picture: Picture) -> Picture:
    """Return a JPEG that lacks only its last marker with that. Return any other picture as it is.

    Some writers forget the marker, and browsers show what there is. If more is missing, the decoder complains.
    """
    if _LIBRARY is None or picture.format is not Format.JPEG or picture.still.endswith(END):
        return picture
    ended = replace(picture, original=picture.original + END, still=picture.still + END)
    return picture if _jpeg_in_planes(ended, (1, 1)) is None else ended


def _png_in_planes(picture: Picture) -> Planes | None:
    """libdeflate inflates the rows, and libav undoes their filters. It gets them in a file that is not compressed."""
    if picture.width * picture.height > _MAX_PNG_PIXELS:
        return None
    try:
        frame = _decoded_png(with_stored_rows(picture, deflate.zlib_decompress))
    except (deflate.DeflateError, FFmpegError, ValueError):
        return None
    return _planes_of(frame.planes[0].buffer_ptr, frame.planes[0].line_size, (picture.width, picture.height))


def _decoded_png(parts: list[bytes | memoryview]) -> VideoFrame:
    packet = Packet(sum(map(len, parts)))  # of libav's own memory: of any other its decoder takes a copy
    unfilled = memoryview(packet)
    for part in parts:
        unfilled[: len(part)] = part
        unfilled = unfilled[len(part) :]
    parts.clear()
    decoder = CodecContext.create("png", "r")
    decoder.thread_count = 1
    (frame,) = decoder.decode(packet) + decoder.decode(None)
    return frame


def _webp_in_planes(picture: Picture) -> Planes | None:
    file, size = (picture.still, len(picture.still)), (picture.width, picture.height)
    width, height = ctypes.c_int(), ctypes.c_int()
    if not _WEBP.WebPGetInfo(*file, width, height) or (width.value, height.value) != size:
        return None
    frame = _frame_for(size, _OF_WEBP)
    planes = [each for plane in frame.planes for each in (plane.buffer_ptr, plane.buffer_size, plane.line_size)]
    return Planes(frame, size) if _WEBP.WebPDecodeYUVInto(*file, *planes) else None


def _jpeg_in_planes(picture: Picture, wanted: Size) -> Planes | None:
    file, full_size = (picture.still, len(picture.still)), (picture.width, picture.height)
    decoder = _LIBRARY.tjInitDecompress()  # not one for all: it does not forget what it has complained about
    try:
        width, height, sampling, colours = (ctypes.c_int() for _ in range(4))
        if _LIBRARY.tjDecompressHeader3(decoder, *file, width, height, sampling, colours) != 0:
            return None
        is_usual = colours.value == _YCBCR and sampling.value in _SAMPLING
        if not is_usual or (width.value, height.value) != full_size:
            return None
        reduced = min(full_size[0] // wanted[0], full_size[1] // wanted[1])
        factor = max(each for each in (1, 2, 4, 8) if each <= max(1, reduced))
        size = -(-full_size[0] // factor), -(-full_size[1] // factor)
        frame = _frame_for(size, _SAMPLING[sampling.value])
        planes, strides = _pointers(frame)
        done = _LIBRARY.tjDecompressToYUVPlanes(decoder, *file, planes, size[0], strides, size[1], 0)
        return Planes(frame, size) if done == 0 else None
    finally:
        _LIBRARY.tjDestroy(decoder)


def _frame_for(size: Size, sampling: str) -> VideoFrame:
    width, height = (-(-side // _MCU) * _MCU for side in size)
    return VideoFrame(width, height, sampling)


def _even(size: Size) -> Size:
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def _scaling(across: int, down: int, x: int = 0, y: int = 0, kernel: str = "lanczos") -> str:
    """Return options of the scaler: each sample of chroma is in the middle of ``across`` by ``down`` pixels.

    The picture begins ``x`` and ``y`` pixels after the first of them. Places are in 256ths of a pixel.
    """
    places = 128 * (across - 1) - 256 * x, 128 * (down - 1) - 256 * y
    return "flags={}:in_h_chr_pos={}:in_v_chr_pos={}".format(kernel, *places)


def _in_proportion(full: int, scaled: int, step: int) -> tuple[int, int]:
    """Return both lengths in whole samples of chroma, and as nearly as possible in the same proportion.

    swscale scales each plane from its first to its last sample, so otherwise chroma would drift away from luma.
    """
    shortest = scaled + scaled % 2
    pairs = [(round(full * to / scaled / step) * step, to) for to in range(shortest, shortest + NARROWEST, 2)]
    return min(pairs, key=lambda pair: abs(pair[0] / pair[1] - full / scaled))


def _pointers(frame: VideoFrame) -> tuple[Any, Any]:
    """Return the addresses of the three planes, and the lengths of their rows."""
    return _Three(*(each.buffer_ptr for each in frame.planes)), _Strides(*(each.line_size for each in frame.planes))
