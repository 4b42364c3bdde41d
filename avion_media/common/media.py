"""The facts about a media item and its owner, and how they are written as user metadata of its original.

Decision: the owner, an opaque name, travels from RequestMediaUpload to the worker as ``x-amz-meta-owner``, a header
that the upload URL signs. So no replica remembers it, and the client can neither change it nor leave it out. A URL for
an upload without an owner signs the header too, with `NO_OWNER`: some stores accept metadata that a URL does not sign,
and a client could otherwise name any owner. `NO_OWNER` is not a valid owner. A MAC beside an unsigned header was
rejected: it needs a secret that all replicas share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote

from avion_media.common.formats import MediaFormat
from mediathumbs import WEBP_SUFFIX, ThumbnailSize

OWNER_METADATA: Final = "owner"
HOST_METADATA: Final = "host"
KIND_METADATA: Final = "kind"
ATTACHMENT: Final = "attachment"
REMOTE_KINDS: Final = ("avatar", "header", "emoji", "preview_card")
"""What a remote file can be, besides an attachment."""
NO_OWNER: Final = "~"
_OWNER: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
CREDENTIALS_METADATA: Final = "credentials"
_KEEP, _DROP = "keep", "drop"
SOURCE_TYPE_METADATA: Final = "source-type"
GENERATOR_METADATA: Final = "claim-generator"
MANIFEST_TYPE: Final = "application/c2pa"
MAX_MANIFEST_BYTES: Final = 1 << 20
"""Maximum size of a manifest that is kept beside its file."""


class CredentialsState(StrEnum):
    """What became of the content credentials of a file (C2PA)."""

    NONE = ""  # it had none
    DROPPED = "dropped"
    IN_FILE = "in_file"  # it is published as it was uploaded
    BESIDE_FILE = "beside_file"  # under a key of their own


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """Facts about one media item, all from its content, never as declared.

    ``width`` and ``height`` are pixels as displayed (orientation, rotation and pixel aspect applied).
    ``duration_s`` is 0.0 for stills. ``sha256`` is the hash of the scrubbed original, in hex; it is empty for large
    videos, of which only some ranges are read. ``thumbnails`` lists the sizes that were made, which can differ from the
    present configuration; sizes that were also made as WebP are listed again with ``.webp``. It is empty for originals
    of an earlier version, which did not record it. ``credentials`` are those of the file before the scrub,
    which also said ``digital_source_type`` and ``claim_generator`` (`Provenance`, unverified). Audio has no
    pixels and no BlurHash; ``waveform`` has the peaks of `WAVEFORM_SPANS` equal parts, 255 for full scale. ``owner`` is
    the account that the upload named, ``host`` the host of the URL of a remote file, and ``kind`` that of the request:
    these three are not of the content.
    """

    format: MediaFormat
    size_bytes: int
    width: int
    height: int
    blurhash: str
    sha256: str
    animated: bool = False
    duration_s: float = 0.0
    thumbnails: tuple[str, ...] = ()
    credentials: CredentialsState = CredentialsState.NONE
    digital_source_type: str = ""
    claim_generator: str = ""
    waveform: bytes = b""
    owner: str = ""
    host: str = ""
    kind: str = ""

    def to_metadata(self) -> dict[str, str]:
        """User metadata for the object store (ASCII keys and values).

        ``type`` is for other programs. `avion_media.backends.store.stored_facts` reads ``format``.
        """
        metadata = {
            "type": self.format.content_type,
            "format": self.format.name,
            "width": str(self.width),
            "height": str(self.height),
            "blurhash": self.blurhash,
            "animated": "1" if self.animated else "0",
            "duration": f"{self.duration_s:.3f}",
        }
        if self.sha256:
            metadata["sha256"] = self.sha256
        if self.thumbnails:
            metadata["thumbnails"] = ",".join(self.thumbnails)
        if self.credentials:
            metadata[CREDENTIALS_METADATA] = str(self.credentials)
        if self.digital_source_type:
            metadata[SOURCE_TYPE_METADATA] = self.digital_source_type
        if self.claim_generator:  # in percent-encoded UTF-8, because headers are ASCII and lose double blanks
            metadata[GENERATOR_METADATA] = quote(self.claim_generator, safe="")
        if self.waveform:
            metadata["waveform"] = self.waveform.hex()
        if self.owner:
            metadata[OWNER_METADATA] = self.owner
        if self.host:
            metadata |= {HOST_METADATA: self.host, KIND_METADATA: self.kind or ATTACHMENT}
        return metadata

    def is_of_same_file(self, other: MediaFacts) -> bool:
        """Return whether both are of the same content. Thumbnail sizes may differ, because they are configured."""
        one, another = (replace(each, thumbnails=(), owner="", host="", kind="") for each in (self, other))
        return one == another


def readable(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of an original with the texts that headers cannot have as they are."""
    return {name: unquote(value) if name == GENERATOR_METADATA else value for name, value in metadata.items()}


FULL_SIZE = ThumbnailSize("full", 4096)
"""An extra size for images in a format that most browsers cannot show: browsers show this JPEG instead."""


def is_size_name(text: str) -> bool:
    """Return whether this is a valid name of a thumbnail size. It becomes a part of keys and URLs."""
    return re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", text) is not None


def parse_size_names(text: str) -> tuple[str, ...]:
    """Return the thumbnail names in a comma-separated list, without invalid ones."""
    return tuple(name for name in text.split(",") if is_size_name(name.removesuffix(WEBP_SUFFIX)))


def in_all_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of these sizes in all formats."""
    sizes = dict.fromkeys(name.removesuffix(WEBP_SUFFIX) for name in names)
    return tuple(f"{size}{suffix}" for size in sizes for suffix in ("", WEBP_SUFFIX))


def possible_sizes(configured: Iterable[ThumbnailSize]) -> tuple[str, ...]:
    """Return the names of all thumbnails that an attempt may have written, if nothing about it is known."""
    return in_all_formats(size.name for size in (*configured, FULL_SIZE))


def sizes_of(facts: MediaFacts | None, configured: Iterable[ThumbnailSize]) -> tuple[str, ...]:
    """Return the thumbnail names of a media item: the recorded ones, or if none are recorded, the configured ones."""
    return facts.thumbnails if facts is not None and facts.thumbnails else tuple(size.name for size in configured)


def is_owner(text: str) -> bool:
    """Return whether a text can be an owner. It becomes a part of object keys."""
    return _OWNER.fullmatch(text) is not None


def owner_metadata(owner: str) -> dict[str, str]:
    """Return the object metadata that names ``owner``; empty: none."""
    return {OWNER_METADATA: owner or NO_OWNER}


def upload_metadata(owner: str, *, keep_credentials: bool) -> dict[str, str]:
    """Return the metadata of an upload, which its URL signs: the owner, and whether content credentials are kept."""
    return owner_metadata(owner) | {CREDENTIALS_METADATA: _KEEP if keep_credentials else _DROP}


def keeps_credentials(metadata: Mapping[str, str]) -> bool | None:
    """Return whether the metadata of an upload wants its content credentials kept; None if it does not say so."""
    return {_KEEP: True, _DROP: False}.get(metadata.get(CREDENTIALS_METADATA, ""))


def owner_of(metadata: Mapping[str, str]) -> str:
    """Return the owner that the metadata of an object names; empty where it names none."""
    owner = metadata.get(OWNER_METADATA, "")
    return owner if is_owner(owner) else ""
