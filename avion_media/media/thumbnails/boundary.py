"""The one place where a decoder's exceptions become `Rejected`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from avion_media.domain.errors import Reason, Rejected


@contextmanager
def rejecting_damage(what: str) -> Iterator[None]:
    """Run a decoder on hostile bytes: whatever it raises leaves as `Rejected`, whatever it warns of is dropped.

    ``what`` names the step for operators. `Rejected` passes through; memory that ran out is DECODER_LIMIT, a picture
    that a library finds too large TOO_MANY_PIXELS, anything else CORRUPT.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of bombs and odd metadata; our bounds and outlines judge those
        try:
            yield
        except Rejected:
            raise
        except MemoryError as error:
            raise Rejected(Reason.DECODER_LIMIT, f"{what}: out of memory") from error
        except Image.DecompressionBombError as error:
            raise Rejected(Reason.TOO_MANY_PIXELS, f"{what}: {error}") from error
        except Exception as error:  # decoders raise anything for broken bytes, from OSError to IndexError
            raise Rejected(Reason.CORRUPT, f"{what}: {type(error).__name__}: {error}") from error
