"""Real files as seeds: the samples of the tests, and the hostile files that the tests make. Small ones, many kinds.

A parser is given a format with its bytes, so an input for one begins with a byte that stands for the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from avion_media.common.formats import BY_EXTENSION, Family
from mediascrub import HEAD_BYTES, Credentials, Format, MediaKind, sniff
from mediascrub.credentials import is_manifest
from mediascrub.tests.signed import MIME_TYPES, manifest_of, with_manifest
from mediascrub.tests.videos import DATA
from tests.hostile.media.bomb import Bomb

IMAGE_FORMATS = tuple(fmt for fmt in Format if fmt.kind is MediaKind.IMAGE)
VIDEO_FORMATS = tuple(fmt for fmt in Format if fmt.kind is MediaKind.VIDEO)
AUDIO_FORMATS = tuple(fmt for fmt in Format if fmt.kind is MediaKind.AUDIO)
_MAX_IMAGE_BYTES = 64 << 10
_MAX_VIDEO_BYTES = 256 << 10


def labelled(data: bytes, formats: Sequence[Format]) -> tuple[Format, bytes]:
    """The format that the first byte stands for, and the rest."""
    return formats[(data[0] if data else 0) % len(formats)], data[1:]


def images() -> list[bytes]:
    """Labelled images."""
    return _labelled_samples(IMAGE_FORMATS, _MAX_IMAGE_BYTES)


def videos() -> list[bytes]:
    """Labelled videos."""
    return _labelled_samples(VIDEO_FORMATS, _MAX_VIDEO_BYTES)


def check_credentials(found: Credentials, content: bytes) -> None:
    """Check that what was found in a file is one manifest, and lies inside of the file."""
    assert all(0 <= part.offset <= part.end <= len(content) for part in (*found.manifest, *found.carriers))
    manifest = b"".join(content[part.offset : part.end] for part in found.manifest)
    assert is_manifest(manifest, len(manifest)) or not (found.manifest or found.alone), "no manifest"


def audio() -> list[bytes]:
    """Labelled sound alone."""
    return _labelled_samples(AUDIO_FORMATS, _MAX_VIDEO_BYTES)


def heads(length: int) -> list[bytes]:
    """The first bytes of everything."""
    return [content[:length] for content in _contents()]


@cache
def _contents() -> tuple[bytes, ...]:
    known = [path for path in sorted(DATA.iterdir()) if path.suffix[1:] in BY_EXTENSION]
    return tuple(path.read_bytes() for path in known if _is_small(path))


def _is_small(path: Path) -> bool:
    family = BY_EXTENSION[path.suffix[1:]].family
    return path.stat().st_size <= (_MAX_IMAGE_BYTES if family is Family.IMAGE else _MAX_VIDEO_BYTES)


def _labelled_samples(formats: tuple[Format, ...], max_bytes: int) -> list[bytes]:
    found = []
    for content in (*_contents(), *_signed(), *(bomb.make() for bomb in _small_bombs(formats))):
        fmt = sniff(content[:HEAD_BYTES], size=len(content)).format
        if fmt in formats and len(content) < max_bytes:
            found.append(bytes((formats.index(fmt),)) + content)
    return found


def _signed() -> Iterator[bytes]:
    """One file of each format that has a sample, with content credentials."""
    for fmt in MIME_TYPES:
        of_format = [each for each in _contents() if sniff(each[:HEAD_BYTES], size=len(each)).format is fmt]
        yield from (with_manifest(each, fmt, manifest_of(bytes(600))) for each in of_format[:1])


def _small_bombs(formats: tuple[Format, ...]) -> list[Bomb]:
    """Those that are made in no time: they reach code that no good file does."""
    from tests.hostile.media import (
        audio_bombs,
        heif_bombs,
        jpeg_bombs,
        matroska_bombs,
        mp4_bombs,
    )  # they encode pictures

    groups = {
        IMAGE_FORMATS: (heif_bombs, jpeg_bombs),
        VIDEO_FORMATS: (matroska_bombs, mp4_bombs),
        AUDIO_FORMATS: (audio_bombs,),
    }[formats]
    slow = ("49-", "silence", "million", "megabyte", "gigabyte", "0000", "giant", "1000", "changing")
    return [bomb for group in groups for bomb in group.BOMBS if not any(word in bomb.name for word in slow)]
