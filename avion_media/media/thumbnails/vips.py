"""libvips, with all of it switched off that a job does not need.

The fork server imports this module: in a job no file can be opened and no code can be mapped any more. It must compute
nothing with it, not even a constant: libvips would start a thread, and a job, which is forked without that thread but
with the belief in it, would wait for it until its deadline.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyvips

# One thread beside the caller's: a job has one core, and each thread holds buffers of its own.
pyvips.concurrency_set(1)
# A job makes one picture; nothing is asked for twice.
pyvips.cache_set_max(0)
pyvips.block_untrusted_set(True)
# Loaders, of which a build of libvips has dozens, are allowed one by one. Of its savers none is needed.
pyvips.operation_block_set("VipsForeign", True)

_OUT_OF_MEMORY = ("out of memory", "creating thread")


def allow_png() -> None:
    """Let PNG be decoded."""
    pyvips.operation_block_set("VipsForeignLoadPngBuffer", False)


def allow_webp() -> None:
    """Let WebP be decoded."""
    pyvips.operation_block_set("VipsForeignLoadWebpBuffer", False)


def compute(image: pyvips.Image) -> bytes:
    """The samples of ``image``, row by row from the top. Raises `pyvips.Error`; MemoryError when memory ran out."""
    with _raising_memory_errors():
        samples: bytes = image.write_to_memory()
        return samples


@contextmanager
def _raising_memory_errors() -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        if any(each in str(error) for each in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise
