"""Owners of media: opaque names that callers give. An upload carries its owner as metadata of its object.

Decision: the owner travels from RequestMediaUpload to the worker as ``x-amz-meta-owner``, a header that the upload URL
signs. So no replica remembers it, and the client can neither change it nor leave it out. A URL for an upload without an
owner signs the header too, with `NO_OWNER`: some stores accept metadata that a URL does not sign, and a client could
otherwise name any owner. `NO_OWNER` is not a valid owner. A MAC beside an unsigned header was rejected: it needs a
secret that all replicas share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

OWNER_METADATA: Final = "owner"
NO_OWNER: Final = "~"
_OWNER: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


def is_owner(text: str) -> bool:
    """Return whether a text can be an owner. It becomes a part of object keys."""
    return _OWNER.fullmatch(text) is not None


def owner_metadata(owner: str) -> dict[str, str]:
    """Return the object metadata that names ``owner``; empty: none."""
    return {OWNER_METADATA: owner or NO_OWNER}


def owner_of(metadata: Mapping[str, str]) -> str:
    """Return the owner that the metadata of an object names; empty where it names none."""
    owner = metadata.get(OWNER_METADATA, "")
    return owner if is_owner(owner) else ""
