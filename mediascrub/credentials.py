"""Content credentials: where a file has its C2PA manifest. Nothing in the manifest is read.

The manifests of a file are one superbox of JUMBF (ISO/IEC 19566-5) of the type ``c2pa``. C2PA 2.2, annex A, says where
each format has it: APP11 segments of a JPEG, a chunk of a PNG, WebP or WAVE, an extension of a GIF, a ``uuid`` box of
MP4, MOV, AVIF and HEIC, a frame of an ID3 tag of MP3 and FLAC. It has no place for it in WebM and MKV.

The scrub removes it. A caller can leave it in the file if nothing else is private, or keep it beside the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from mediascrub.ranges import Patch, Range, merged, missing, total_bytes

MANIFEST_HEAD_BYTES = 32
"""Bytes at the start of a manifest that `is_manifest` looks at."""
_JUMB, _JUMD = b"jumb", b"jumd"
CREDENTIALS_TYPE = bytes.fromhex("63327061 0011 0010 8000 00AA00389B71")
"""The type of a manifest: JUMBF writes ``c2pa`` as a UUID."""
_UUID = bytes.fromhex("D8FEC3D6 1B0E 483C 9297 5828877EC481")
# Version and flags of a full box, its purpose, and where the first box of hashes is.
_BOX_PURPOSE = bytes(4) + b"manifest\x00"
BOX_HEAD_BYTES = len(_UUID) + len(_BOX_PURPOSE) + 8
"""Bytes of a ``uuid`` box before the manifest in it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The C2PA manifest of a file."""

    manifest: tuple[Range, ...]  # its bytes, in order
    carriers: tuple[Range, ...]  # the parts of the file that only contain it
    alone: bool  # the scrub changes nothing but the carriers: nothing else is private

    @property
    def size_bytes(self) -> int:
        """The length of the manifest in bytes."""
        return total_bytes(self.manifest)


def is_manifest(head: bytes | memoryview, size_bytes: int) -> bool:
    """Return whether data of ``size_bytes`` that begins with ``head`` is exactly one superbox of the type ``c2pa``."""
    head = bytes(head[:MANIFEST_HEAD_BYTES])
    is_superbox = head[4:8] == _JUMB and head[12:16] == _JUMD and head[16:] == CREDENTIALS_TYPE
    return is_superbox and int.from_bytes(head[:4], "big") == size_bytes


def is_manifest_box(head: bytes | memoryview, size_bytes: int) -> bool:
    """Return whether a ``uuid`` box contains a manifest. ``head`` is the start of its content of ``size_bytes``."""
    begins = bytes(head[: len(_UUID) + len(_BOX_PURPOSE)]) == _UUID + _BOX_PURPOSE
    return begins and is_manifest(head[BOX_HEAD_BYTES:], size_bytes - BOX_HEAD_BYTES)


def credentials_in_place(manifest: Range, carrier: Range, patches: Iterable[Patch]) -> Credentials:
    """Return the credentials of a file that ``patches`` scrub."""
    alone = all(carrier.offset <= patch.offset and patch.end <= carrier.end for patch in patches)
    return Credentials((manifest,), (carrier,), alone)


def find_credentials(
    view: memoryview,
    manifest: Sequence[Range],
    carriers: Sequence[Range],
    is_scrubbed: Callable[[bytes], bool],
) -> Credentials | None:
    """Return the credentials in these parts of a file; None if they are not a manifest.

    ``is_scrubbed`` returns whether the file without its carriers is what the scrub makes of it.
    """
    head = b"".join(view[part.offset : part.end] for part in islice(manifest, MANIFEST_HEAD_BYTES))
    if not is_manifest(head, total_bytes(manifest)):
        return None
    rest = missing([Range(0, len(view))], merged(carriers))
    alone = is_scrubbed(b"".join(view[part.offset : part.end] for part in rest))
    return Credentials(tuple(manifest), tuple(carriers), alone)
