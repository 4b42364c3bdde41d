"""Trace contexts: W3C's ``traceparent``, and the trace of each uploaded media item.

A client makes two calls for one upload, and most clients send no trace context. So that both calls and the task are one
trace, the trace id is the media id: the same 128 bits, written in hex. Each can be derived from the other (`avion-media
inspect ID` prints the trace id). 72 of these bits are random, more than ratio samplers use, so all processes make the
same sampling decision. The last 64 bits are also the id of the first span, RequestMediaUpload, so code that continues
the trace knows its parent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

SAMPLED = 1
_ID_BITS = (1 << 64) - 1
_CROCKFORD = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "abcdefghijklmnopqrstuv")  # to the digits that `int` knows
_MEDIA_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
# Version 00, and anything that a later version appends (https://www.w3.org/TR/trace-context/#versioning-of-traceparent).
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of one trace, as other spans refer to it."""

    trace_id: int
    span_id: int
    flags: int = 0

    @property
    def sampled(self) -> bool:
        """Whether the span is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The context in W3C's format."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Read a ``traceparent``. Return None if it is invalid; a new trace begins then, as the standard requires."""
    match = _TRACEPARENT.fullmatch(text) if len(text) < 256 else None
    if match is None or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return TraceContext(trace_id, span_id, int(match[4], 16)) if trace_id and span_id else None


def trace_of_medium(media_id: str) -> TraceContext | None:
    """Return the trace of an uploaded media item, at its first span; None if the text is not a media id.

    Its flags have no meaning: each sampler decides by the id.
    """
    if not _MEDIA_ID.fullmatch(media_id):
        return None
    value = int(media_id.translate(_CROCKFORD), 32)
    return TraceContext(value, value & _ID_BITS or 1) if value else None


def trace_of_subject(subject: str) -> TraceContext:
    """Return the trace of a task's subject, which is the same in every process. For tasks that no call or other task
    queues.

    It is `trace_of_medium` for a media id; otherwise the first bits of the hash of the remote media item (or of its
    URL).
    """
    medium = trace_of_medium(subject)
    if medium is not None:
        return medium
    digest = subject if _HASH.fullmatch(subject) else sha256(subject.encode()).hexdigest()
    return TraceContext(int(digest[:32], 16) or 1, int(digest[:16], 16) or 1)
