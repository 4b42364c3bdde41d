"""libvips, with everything switched off that a job does not need.

The fork server imports this module, because a job can open no file and map no code. The fork server must compute
nothing with it, not even a constant, because libvips would start a thread. A forked job does not have that thread, but
libvips would expect it, and the job would wait for it until its deadline.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import pyvips

from avion_media.common.formats import PNG, WEBP, MediaFormat

# One thread beside the caller's, because a job has one core, and each thread has buffers of its own.
pyvips.concurrency_set(1)
# A job makes one picture, so a cache is of no use.
pyvips.cache_set_max(0)
pyvips.block_untrusted_set(True)
# A build of libvips has dozens of loaders, which are allowed one by one. No saver is needed.
pyvips.operation_block_set("VipsForeign", True)

_OUT_OF_MEMORY = ("out of memory", "creating thread")

ALLOWED: Final[set[str]] = set()
"""The names of the formats that were allowed."""


def _allow(fmt: MediaFormat, loader: str) -> None:
    ALLOWED.add(fmt.name)
    pyvips.operation_block_set(loader, False)


allow_png = partial(_allow, PNG, "VipsForeignLoadPngBuffer")
"""Allows the decoder of PNG, and the one into planes."""
allow_webp = partial(_allow, WEBP, "VipsForeignLoadWebpBuffer")


def compute(image: pyvips.Image) -> bytes:
    """Return the samples of ``image``, row by row from the top. Raises `pyvips.Error`, or MemoryError."""
    try:
        samples: bytes = image.write_to_memory()
    except pyvips.Error as error:
        if any(each in str(error) for each in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise
    return samples
