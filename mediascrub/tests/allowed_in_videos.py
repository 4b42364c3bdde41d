"""What may be left of the tags of a scrubbed video: how it is coded and shown, nothing about whose it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av

_PRIVATE_NAMES = re.compile(
    r"gps|location|latitude|longitude|make$|model|software|encoder|title|artist|comment|author|serial|keyword|"
    r"^description|vendor|uuid|xmp|camera|lens|owner|copyright|app$|attach|chapter|tagname|tagstring|compressorname|"
    r"warning|error|contentcreat|creationdate|trackname|filename|datetimeoriginal|handlerdesc",
    re.IGNORECASE,
)
_DATES = re.compile(r"date", re.IGNORECASE)
_NO_DATE = "0000:00:00 00:00:00"
_FORMAT_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", "encoder"))
_STREAM_TAGS = frozenset(("language", "vendor_id", "DURATION", "alpha_mode"))


def leaks(tags: Mapping[str, Any]) -> Iterator[str]:
    """What exiftool found that must not be there."""
    for name, value in tags.items():
        group, _, tag = name.partition(":")
        if group in ("SourceFile", "System", "ExifTool", "File") or value in ("", 0, _NO_DATE):
            continue
        if _PRIVATE_NAMES.search(tag) or (_DATES.search(tag) and value != _NO_DATE):
            yield f"{name} = {value}"


def tag_leaks(path: Path) -> Iterator[str]:
    """What libav finds that must not be there."""
    with av.open(str(path)) as container:
        for tag, value in container.metadata.items():
            if tag not in _FORMAT_TAGS or (tag == "encoder" and value):
                yield f"format {tag} = {value}"
        for stream in container.streams:
            if stream.type not in ("video", "audio"):
                yield f"{stream.type} stream"
            for tag, value in stream.metadata.items():
                if tag not in _STREAM_TAGS or (tag == "vendor_id" and value != "[0][0][0][0]"):
                    yield f"stream {tag} = {value}"
        yield from (f"chapter {chapter}" for chapter in container.chapters())
