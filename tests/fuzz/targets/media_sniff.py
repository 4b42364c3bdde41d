"""What a file is, by its first bytes: an answer for anything."""

from __future__ import annotations

from mediascrub.sniffing import HEAD_BYTES, sniff
from tests.fuzz.parser import parser_target
from tests.fuzz.samples import heads


def _feed(data: bytes) -> None:
    sniff(data, size=len(data))
    sniff(data, size=1 << 40)


TARGET = parser_target("media-sniff", lambda: heads(HEAD_BYTES), _feed, max_bytes=2 * HEAD_BYTES, weight=0.5)
