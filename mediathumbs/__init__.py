"""Thumbnails of photos, posters of videos and waveforms of sound, in the colours that a browser would show.

What they are made of is untrusted, and native libraries decode it, so call them in a sandboxed process, one at a time:
they are not thread-safe. This package loads no decoder: each of these functions loads its own at its first use, for the
whole process. mediascrub reads the files first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from mediathumbs.memory import (
    WAVEFORM_MEMORY_BYTES,
    largest_picture_memory_bytes,
    picture_memory_bytes,
    poster_memory_bytes,
)
from mediathumbs.results import (
    LIBRARIES_OF_SYSTEM,
    MAX_THUMBNAIL_BYTES,
    WAVEFORM_SPANS,
    WEBP_SUFFIX,
    Poster,
    Thumbnails,
    ThumbnailSize,
    Waveform,
    Webp,
    fit_within,
    is_blurhash,
    thumbnail_names,
)

if TYPE_CHECKING:
    from mediathumbs.pictures import make_thumbnails
    from mediathumbs.planes import with_its_end
    from mediathumbs.poster import coded_pixels, make_poster
    from mediathumbs.vips import allow_png, allow_webp
    from mediathumbs.waveform import make_waveform

__all__ = [
    "LIBRARIES_OF_SYSTEM",
    "MAX_THUMBNAIL_BYTES",
    "WAVEFORM_MEMORY_BYTES",
    "WAVEFORM_SPANS",
    "WEBP_SUFFIX",
    "Poster",
    "ThumbnailSize",
    "Thumbnails",
    "Waveform",
    "Webp",
    "allow_png",
    "allow_webp",
    "coded_pixels",
    "fit_within",
    "is_blurhash",
    "largest_picture_memory_bytes",
    "make_poster",
    "make_thumbnails",
    "make_waveform",
    "picture_memory_bytes",
    "poster_memory_bytes",
    "thumbnail_names",
    "with_its_end",
]

_WITH_DECODERS: Final = {
    "allow_png": "vips",
    "allow_webp": "vips",
    "coded_pixels": "poster",
    "make_poster": "poster",
    "make_thumbnails": "pictures",
    "make_waveform": "waveform",
    "with_its_end": "planes",
}


def __getattr__(name: str) -> object:
    if name not in _WITH_DECODERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_DECODERS[name]}"), name)
