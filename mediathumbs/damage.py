"""What the errors of decoders mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from mediascrub import ScrubCode, ScrubError


@contextmanager
def judging_damage() -> Iterator[None]:
    """Run a decoder on hostile bytes: any error but MemoryError becomes a `ScrubError`. Warnings are discarded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of bombs and odd metadata, which our own checks cover
        try:
            yield
        except (ScrubError, MemoryError):
            raise
        except Image.DecompressionBombError as error:
            raise ScrubError(ScrubCode.TOO_MANY_PIXELS, f"decoding: {error}") from error
        except Exception as error:  # for broken bytes decoders raise anything from OSError to IndexError
            raise ScrubError(ScrubCode.CORRUPT, f"decoding: {type(error).__name__}: {error}") from error
