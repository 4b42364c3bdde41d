"""The facts about a media item, in the user metadata of its original (`MediaFacts.to_metadata`)."""

from __future__ import annotations

from collections.abc import Mapping

from avion_media.backends.store.objects import ObjectInfo
from avion_media.common.formats import BY_NAME
from avion_media.common.media import MediaFacts, parse_size_names
from avion_media.common.records import CustomRecord

_SIZE = "size_bytes"


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
    )


_FIELDS = ("format", "width", "height", "blurhash", "animated", "duration", "sha256", "thumbnails")
_KEY = "metadata of original/…, cached_remote/…"
FACTS = CustomRecord("facts", MediaFacts, _KEY, "workers", fields=_FIELDS, parse=_parse)
