"""Pictures in planes of luma and chroma, as JPEGs store them: libjpeg-turbo makes and writes them, swscale scales them.

docs/decisions/0004-imaging-libraries.md says why. The functions are those of turbojpeg.h 2.1, and of decode.h 1.0.
Without libjpeg-turbo no picture comes into planes, without libwebp no WebP.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Final

import deflate
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from PIL import Image

from avion_media.domain.formats import JPEG, PNG
from avion_media.media.formats import Picture, png
from avion_media.media.libav import filtered, rgb_of
from avion_media.media.thumbnails import vips
from avion_media.media.thumbnails.pixels import Pixels, Size, webp_of

_YCBCR, _RGB = 1, 0  # TJCS_YCbCr, TJPF_RGB
_SAMPLING: Final = {0: "yuvj444p", 1: "yuvj422p", 2: "yuvj420p", 4: "yuvj440p", 5: "yuvj411p"}  # TJSAMP_*
_OF_WEBP: Final = "yuv420p"  # luma from 16 to 235, as in television; that of a JPEG is from 0 to 255
_OUTPUT, _OUTPUT_SAMPLING = "yuvj420p", 2
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
    "libturbojpeg.so.0",
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
    "libwebp.so.7",
    WebPGetInfo=(_NUMBER, ctypes.c_char_p, _SIZE, _OUT, _OUT),
    WebPDecodeYUVInto=(_ADDRESS, ctypes.c_char_p, _SIZE, *(_ADDRESS, _SIZE, _NUMBER) * 3),
)
_ENCODER: Final = _LIBRARY and _LIBRARY.tjInitCompress()


@dataclass(frozen=True, slots=True)
class Planes:
    """A picture in sRGB, of ``size``, in the left upper corner of ``frame``. Has methods of `Pixels`."""

    frame: VideoFrame
    size: Size
    has_alpha: bool = False

    def scaled(self, size: Size) -> Planes:
        """Return the picture at ``size``, with half of the chroma samples each way."""
        if (self.frame.width, self.frame.height) == self.size == size and self.frame.format.name == _OUTPUT:
            return self
        width, height = size
        crop = f"w={self.size[0]}:h={self.size[1]}:x=0:y=0:exact=1"
        # Chroma lies in the middle of the luma that it covers: in 256ths of a pixel after the first.
        sampling = self.frame.format
        across, down = (128 * (8 // chroma(8) - 1) for chroma in (sampling.chroma_width, sampling.chroma_height))
        places = f"in_h_chr_pos={across}:in_v_chr_pos={down}:out_h_chr_pos=128:out_v_chr_pos=128"
        levels = f"in_range={'tv' if sampling.name == _OF_WEBP else 'pc'}:out_range=pc"
        scale = f"w={width}:h={height}:flags=lanczos:{places}:{levels}"
        return Planes(filtered(self.frame, ("crop", crop), ("scale", scale), ("format", _OUTPUT)), size)

    def upright(self, orientation: int) -> Planes:
        """Return the picture turned upright from an Exif ``orientation``."""
        if orientation not in _TURNS:
            return self
        frame = filtered(self.frame, *(each.partition("=")[::2] for each in _TURNS[orientation].split()))
        return Planes(frame, (frame.width, frame.height))

    def on_white(self) -> Image.Image:
        """Return the picture, which has no opacity, in RGB."""
        return rgb_of(self.frame)

    def jpeg(self, quality: int) -> bytes:
        """Return the picture as a baseline JPEG, 4:2:0, with no metadata."""
        (width, height), frame = self.size, self.frame
        if width % 2 or height % 2:
            frame = _even(frame)
        data, length = ctypes.c_void_p(), ctypes.c_ulong()
        planes, strides = _pointers(frame)
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
    if _LIBRARY is not None and picture.format is JPEG and picture.ycbcr:
        return _jpeg_in_planes(picture, wanted)
    if _LIBRARY is not None and picture.format.name in vips.ALLOWED:
        if picture.ycbcr and _WEBP is not None:
            return _webp_in_planes(picture)
        return _png_in_planes(picture) if picture.format is PNG else None
    return None


def _png_in_planes(picture: Picture) -> Planes | None:
    """libdeflate inflates the rows, and libav undoes their filters. It gets them in a file that is not compressed."""
    if picture.width * picture.height > _MAX_PNG_PIXELS:
        return None
    try:
        file = Packet(png.with_stored_rows(picture, deflate.zlib_decompress))
        decoder = CodecContext.create("png", "r")
        decoder.thread_count = 1
        (frame,) = decoder.decode(file) + decoder.decode(None)
    except (deflate.DeflateError, FFmpegError, ValueError):
        return None
    return _planes_of(frame.planes[0].buffer_ptr, frame.planes[0].line_size, (picture.width, picture.height))


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


def _even(frame: VideoFrame) -> VideoFrame:
    """Return a copy with an even number of rows and columns, of which the last is there twice: the encoder reads it."""
    even = VideoFrame(frame.width + frame.width % 2, frame.height + frame.height % 2, _OUTPUT)
    for source, target in zip(frame.planes, even.planes, strict=True):
        samples, stride = bytes(source), abs(source.line_size)
        starts = range(0, source.height * stride, stride)[:: source.line_size // stride]  # vflip only turns the order
        lines = [samples[start : start + source.width] for start in starts]
        rows = [line.ljust(target.line_size, line[-1:]) for line in lines]
        target.update(b"".join([*rows, *rows[-1:] * (target.height - source.height)]))
    return even


def _pointers(frame: VideoFrame) -> tuple[Any, Any]:
    """Return the addresses of the three planes, and the lengths of their rows."""
    return _Three(*(each.buffer_ptr for each in frame.planes)), _Strides(*(each.line_size for each in frame.planes))
