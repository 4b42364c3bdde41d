"""A media item has one trace, which each process derives from its id."""

from __future__ import annotations

import hashlib

from avion_media.common.formats import JPEG
from avion_media.common.ids import new_media_id
from avion_media.common.telemetry.traces import trace_of_medium, trace_of_subject
from tests.remote_ids import remote_id_for
from trio_telemetry import parse_traceparent


def test_a_mediums_trace_is_its_id() -> None:
    media_id = new_media_id(JPEG, 1_700_000_000_000, lambda _bits: 0x123456789ABCDEF012)
    trace = trace_of_medium(media_id.text)
    assert trace is not None
    assert trace.traceparent == "00-018bcfe5680001123456789abcdef012-3456789abcdef012-00"
    assert trace_of_medium("not an id") is None
    assert trace_of_medium("a" * 64) is None
    assert trace_of_subject(media_id.text) == trace


def test_what_is_no_upload_has_a_trace_by_its_hash() -> None:
    url = "https://a.example/b.png"
    hashed, named = hashlib.sha256(url.encode()).hexdigest(), remote_id_for(url).text
    assert trace_of_subject(url).traceparent == f"00-{hashed[:32]}-{hashed[:16]}-00"
    assert trace_of_subject(named).traceparent == f"00-{named[:32]}-{named[:16]}-00"
    assert parse_traceparent(trace_of_subject("0" * 64).traceparent)
    assert parse_traceparent(trace_of_subject("").traceparent)
