"""How much memory a process can take to read a file, to scrub it and to draw it: bytes to grant it beforehand."""

from __future__ import annotations

from collections.abc import Collection

from mediascrub import Format, Peek

# Measured at 48 and 67 million pixels as growth of the address space.
_BYTES_PER_PIXEL = {
    Format.JPEG: 3,  # shrunk line by line as it is decoded
    Format.PNG: 9,  # 8.4: interlaced RGBA of 16 bits
    Format.GIF: 14,  # 5.5, and transparent as RGBA
    Format.WEBP: 7,  # 4.6: lossless with alpha
    Format.AVIF: 21,  # 1350 MiB in all for 67 million pixels of 10 bits, 4:4:4, with alpha
    Format.HEIC: 17,  # 15.0; with 10 bits 11.4
}
_WHOLE_BYTES_PER_PIXEL = {Format.JPEG: 10, Format.WEBP: 16}  # 8.8: progressive CMYK; 13: the canvas of an animation
# At 67 million pixels, two HEICs fit the default budget at once, and any picture the default memory of one process.
# The interpreter's own growth, scaled planes, encoder, and thumbnails.
_BASE_BYTES = 96 << 20
_COPIES = 4  # of the file: mapped, scrubbed, reduced for the decoder, written
_POSTER_BASE_BYTES = 128 << 20
# Decoded frames in a decoder's memory: at most 16 references of a small picture, 6 of the largest that its level
# allows; 3 bytes a pixel (10 bit 4:2:0), one thread. Measured for the first frame: 8K HEVC needs less than 192 MiB.
_POSTER_BYTES_PER_PIXEL = 24


def picture_memory_bytes(facts: Peek, fmt: Format, file_bytes: int) -> int:
    """Return the maximum memory for this picture: decode, thumbnails and scrub of the file.

    ``facts`` are those of mediascrub's `peek`, or a `Picture`. Raises KeyError for a format that is no image.
    """
    per_pixel = _WHOLE_BYTES_PER_PIXEL[fmt] if facts.whole else _BYTES_PER_PIXEL[fmt]
    return _BASE_BYTES + _COPIES * file_bytes + facts.width * facts.height * per_pixel


def largest_picture_memory_bytes(max_pixels: int, formats: Collection[str]) -> int:
    """Return how much memory a picture of so many pixels may need, in the most expensive of these formats.

    That is without the copies of its file, which `picture_memory_bytes` adds.
    """
    most = max((cost for fmt, cost in (_BYTES_PER_PIXEL | _WHOLE_BYTES_PER_PIXEL).items() if fmt in formats), default=0)
    return _BASE_BYTES + most * max_pixels


def poster_memory_bytes(pixels: int) -> int:
    """Return how much memory a poster may need, thumbnails included, if a coded frame has so many pixels."""
    return _POSTER_BASE_BYTES + _POSTER_BYTES_PER_PIXEL * pixels


WAVEFORM_MEMORY_BYTES = _POSTER_BASE_BYTES
"""How much memory a waveform may need, decoder and thumbnails included."""
