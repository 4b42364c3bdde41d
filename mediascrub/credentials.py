"""Content credentials: where a file has its C2PA manifest. `provenance` reads what it says.

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

    manifest: tuple[Range, ...]  # its bytes, in order; none if it is damaged: it is longer or shorter than it says
    carriers: tuple[Range, ...]  # the parts of the file that only contain it
    alone: bool  # the scrub changes nothing but the carriers: nothing else is private

    @property
    def size_bytes(self) -> int:
        """The length of the manifest in bytes."""
        return total_bytes(self.manifest)


def begins_manifest(data: bytes | memoryview) -> bool:
    """Return whether data begins with a superbox of the type ``c2pa``."""
    head = bytes(data[:MANIFEST_HEAD_BYTES])
    return head[4:8] == _JUMB and head[12:16] == _JUMD and head[16:] == CREDENTIALS_TYPE


def is_manifest(data: bytes | memoryview, size_bytes: int) -> bool:
    """Return whether data of ``size_bytes``, of which at least the head is given, is exactly one such superbox."""
    return begins_manifest(data) and int.from_bytes(data[:4], "big") == size_bytes


def is_manifest_box(content: bytes | memoryview) -> bool:
    """Return whether the content of a ``uuid`` box, of which at least the head is given, has a manifest."""
    begins = bytes(content[: len(_UUID) + len(_BOX_PURPOSE)]) == _UUID + _BOX_PURPOSE
    return begins and begins_manifest(content[BOX_HEAD_BYTES:])


def credentials_in_place(head: bytes, manifest: Range, carrier: Range, patches: Iterable[Patch]) -> Credentials | None:
    """Return the credentials of a file that ``patches`` scrub; None if the data with this head is not a manifest."""
    if not is_manifest(head, manifest.length):
        return Credentials((), (carrier,), alone=False) if begins_manifest(head) else None
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
        return Credentials((), tuple(carriers), alone=False) if begins_manifest(head) else None
    rest = missing([Range(0, len(view))], merged(carriers))
    alone = is_scrubbed(b"".join(view[part.offset : part.end] for part in rest))
    return Credentials(tuple(manifest), tuple(carriers), alone)
