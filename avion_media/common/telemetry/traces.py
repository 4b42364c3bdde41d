"""The trace of a media item: its id.

A client makes two calls for one upload, and most clients send no trace context. So that both calls and the task are one
trace, the trace id is the media id: the same 128 bits, written in hex. Each can be derived from the other (`avion-media
inspect ID` prints the trace id). 72 of these bits are random, more than ratio samplers use, so all processes make the
same sampling decision. The last 64 bits are also the id of the first span, RequestMediaUpload, so code that continues
the trace knows its parent.
"""

from __future__ import annotations

import re
from hashlib import sha256

from avion_media.common.ids import MEDIA_ID_PATTERN, value_of
from trio_telemetry import TraceContext

_ID_BITS = (1 << 64) - 1
_MEDIA_ID = re.compile(MEDIA_ID_PATTERN, re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


def trace_of_medium(media_id: str) -> TraceContext | None:
    """Return the trace of an uploaded media item, at its first span; None if the text is not a media id.

    Its flags have no meaning: each sampler decides by the id.
    """
    if not _MEDIA_ID.fullmatch(media_id):
        return None
    value = value_of(media_id)
    return TraceContext(value, value & _ID_BITS or 1) if value else None


def trace_of_subject(subject: str) -> TraceContext:
    """Return the trace of a task's subject, which is the same in every process. For tasks that no call or other task
    queues.

    It is `trace_of_medium` for a media id; otherwise the first bits of the id of a remote media item, or of the
    SHA-256 of its URL.
    """
    medium = trace_of_medium(subject)
    if medium is not None:
        return medium
    digest = subject if _HASH.fullmatch(subject) else sha256(subject.encode()).hexdigest()
    return TraceContext(int(digest[:32], 16) or 1, int(digest[:16], 16) or 1)
