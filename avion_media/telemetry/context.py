"""Trace contexts: W3C's ``traceparent``, and the trace that every uploaded medium has of its own.

A client makes two calls for one upload, and most send no context with either. So that both, and the task, are one trace
all the same, the trace's id is the media item's: the 128 bits of the media id, written in hex. Who knows the one has
the other, also at night and without any tool (`avion-media status ID` prints it). 72 of these bits are random, more
than ratio samplers look at, so sampling decides alike in each process. The last 64 bits are also the id of the trace's
first span, RequestMediaUpload: code that continues the trace knows its parent.
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
# Version 00, and whatever a later version appends (https://www.w3.org/TR/trace-context/#versioning-of-traceparent).
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of one trace, as others refer to it."""

    trace_id: int
    span_id: int
    flags: int = 0

    @property
    def sampled(self) -> bool:
        """Return whether the span's maker records it."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """As W3C writes it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Read a ``traceparent``; None when it is none, as the standard wants it: the trace is begun again then."""
    match = _TRACEPARENT.fullmatch(text) if len(text) < 256 else None
    if match is None or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return TraceContext(trace_id, span_id, int(match[4], 16)) if trace_id and span_id else None


def trace_of_medium(media_id: str) -> TraceContext | None:
    """The trace of an uploaded medium, at its first span; None when the text is no media id.

    Its flags mean nothing: whether the trace is sampled is for each sampler to decide, by the id.
    """
    if not _MEDIA_ID.fullmatch(media_id):
        return None
    value = int(media_id.translate(_CROCKFORD), 32)
    return TraceContext(value, value & _ID_BITS or 1) if value else None


def trace_of_subject(subject: str) -> TraceContext:
    """The trace of what a task is about: the same in every process, for tasks that no call or other task queues.

    `trace_of_medium` for a media id; else the first bits of the hash that names a remote media item (by it, or by its
    URL).
    """
    medium = trace_of_medium(subject)
    if medium is not None:
        return medium
    digest = subject if _HASH.fullmatch(subject) else sha256(subject.encode()).hexdigest()
    return TraceContext(int(digest[:32], 16) or 1, int(digest[:16], 16) or 1)
