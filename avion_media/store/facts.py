"""The facts about a media item, in the user metadata of its original."""

from __future__ import annotations

from collections.abc import Mapping

from avion_media.domain.media import MediaFacts, facts_from_metadata
from avion_media.records import CustomRecord
from avion_media.store.objects import ObjectInfo

_SIZE = "size_bytes"


def _parse(metadata: Mapping[str, str], _key: str) -> MediaFacts:
    return facts_from_metadata(metadata, int(metadata[_SIZE]))


FACTS = CustomRecord(
    "facts",
    MediaFacts,
    "metadata of original/…, cached_remote/…",
    "workers",
    fields=["format", "width", "height", "blurhash", "animated", "duration", "sha256", "thumbnails"],
    parse=_parse,
)


def stored_facts(original: ObjectInfo) -> MediaFacts | None:
    """Return the facts about a media item; None if another program wrote its original, or this version cannot read
    them."""
    return FACTS.read_or_skip({**original.metadata, _SIZE: str(original.size_bytes)}, original.key)
