"""libvips, with everything switched off that a job does not need.

A process that forks sandboxed ones imports this module, because they can open no file and map no code. It must compute
nothing with it, not even a constant, because libvips would start a thread. A forked process does not have that thread,
but libvips would expect it, and the process would wait for it until it is killed.
"""

from __future__ import annotations

from typing import Final

import pyvips

from mediascrub import Format

# One thread beside the caller's, because a job has one core, and each thread has buffers of its own.
pyvips.concurrency_set(1)
# A job makes one picture, so a cache is of no use.
pyvips.cache_set_max(0)
pyvips.block_untrusted_set(True)
# A build of libvips has dozens of loaders, which are allowed one by one. No saver is needed.
pyvips.operation_block_set("VipsForeign", True)

_OUT_OF_MEMORY = ("out of memory", "creating thread")

ALLOWED: Final[set[Format]] = set()
"""The formats that were allowed."""


def allow_png() -> None:
    """Allow the decoders of PNG in this process."""
    ALLOWED.add(Format.PNG)
    pyvips.operation_block_set("VipsForeignLoadPngBuffer", False)


def allow_webp() -> None:
    """Allow the decoders of WebP in this process."""
    ALLOWED.add(Format.WEBP)
    pyvips.operation_block_set("VipsForeignLoadWebpBuffer", False)


def compute(image: pyvips.Image) -> bytes:
    """Return the samples of ``image``, row by row from the top. Raises `pyvips.Error`, or MemoryError."""
    try:
        samples: bytes = image.write_to_memory()
    except pyvips.Error as error:
        if any(each in str(error) for each in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise
    return samples
