"""The PDQ hash of a picture, computed in a confined process of its own sandbox: see `likeness`."""

from __future__ import annotations

import io
import os
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy: a fork server must have one thread

import numpy
import pdqhash
from PIL import Image, JpegImagePlugin  # noqa: F401 - a confined process can import nothing any more

_EDGE = 512  # the hash sees 64 × 64 averages; more pixels change it by a few bits, and cost their square


def pdq_job(_arguments: dict[str, Any], files: list[int]) -> dict[str, Any]:
    """Return ``pdq`` (in hex) and ``quality`` (0 to 100) of one of our own thumbnails, a JPEG. Files: that JPEG."""
    (file,) = files
    data = os.pread(file, os.fstat(file).st_size, 0)
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        picture.draft("RGB", (_EDGE, _EDGE))
        pixels = picture.convert("RGB")
    pixels.thumbnail((_EDGE, _EDGE), Image.Resampling.BOX)
    bits, quality = pdqhash.compute(numpy.asarray(pixels))
    return {"pdq": numpy.packbits(bits).tobytes().hex(), "quality": int(quality)}
