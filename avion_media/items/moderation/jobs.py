"""Computes the PDQ hash of an image, in a process of its own sandbox: see `likeness`."""

from __future__ import annotations

import io
import os
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy: a fork server must have one thread

import numpy
import pdqhash
from PIL import Image, JpegImagePlugin  # noqa: F401 - a sandboxed process cannot import anything

_EDGE = 512  # the hash uses 64 × 64 averages; more pixels change it by a few bits, and take much more time


def pdq_job(_arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Return ``pdq`` (in hex) and ``quality`` (0 to 100) of a JPEG thumbnail of this service. Files: that JPEG."""
    (file,) = files
    data = os.pread(file, os.fstat(file).st_size, 0)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        picture.draft("RGB", (_EDGE, _EDGE))
        pixels = picture.convert("RGB")
    pixels.thumbnail((_EDGE, _EDGE), Image.Resampling.BOX)
    bits, quality = pdqhash.compute(numpy.asarray(pixels))
    return {"pdq": numpy.packbits(bits).tobytes().hex(), "quality": int(quality)}
