"""The facts about a media item, in the metadata of its original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from avion_media.common.formats import BY_NAME
from avion_media.common.media import (
    CREDENTIALS_METADATA,
    GENERATOR_METADATA,
    HOST_METADATA,
    KIND_METADATA,
    SOURCE_TYPE_METADATA,
    CredentialsState,
    MediaFacts,
    owner_of,
    parse_size_names,
)
from avion_media.common.records import CustomRecord
from trio_s3 import ObjectInfo

_SIZE = "size_bytes"
_FIELDS = (
    *("format", "width", "height", "blurhash", "animated", "duration", "sha256", "thumbnails"),
    *("credentials", "waveform", "owner", "host", "kind"),
    *(SOURCE_TYPE_METADATA, GENERATOR_METADATA),
)
_KEY = "metadata of original/…, cached_remote/…"


def headers_of(content_type: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the headers of a new object, as arguments of botocore."""
    return {"ContentType": content_type, "Metadata": dict(metadata or {})}


def stored_facts(original: ObjectInfo) -> MediaFacts | None:
    """Return the facts about a media item; None if another program wrote its original, or this version cannot read
    them."""
    return FACTS.read_or_skip({**original.metadata, _SIZE: str(original.size_bytes)}, original.key)


def _parse(metadata: Mapping[str, str], _key: str) -> MediaFacts:
    return MediaFacts(
        format=BY_NAME[metadata["format"]],
        size_bytes=int(metadata[_SIZE]),
        width=int(metadata["width"]),
        height=int(metadata["height"]),
        blurhash=metadata.get("blurhash", ""),
        sha256=metadata.get("sha256", ""),
        animated=metadata.get("animated") == "1",
        duration_s=float(metadata.get("duration", "0")),
        thumbnails=parse_size_names(metadata.get("thumbnails", "")),
        credentials=CredentialsState(metadata.get(CREDENTIALS_METADATA, "")),
        digital_source_type=metadata.get(SOURCE_TYPE_METADATA, ""),
        claim_generator=unquote(metadata.get(GENERATOR_METADATA, "")),
        waveform=bytes.fromhex(metadata.get("waveform", "")),
        owner=owner_of(metadata),
        host=metadata.get(HOST_METADATA, ""),
        kind=metadata.get(KIND_METADATA, ""),
    )


FACTS = CustomRecord("facts", MediaFacts, _KEY, "workers", fields=_FIELDS, parse=_parse)
