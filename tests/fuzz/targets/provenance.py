"""Manifests and XMP: whatever they are, what is said of a file has its form, and nothing is raised."""

from __future__ import annotations

from mediascrub.provenance import is_generator, is_source_type, read_provenance
from mediascrub.tests.test_provenance import AI, FORMS, URL, created, mapping, store_of, text
from tests.fuzz.parser import parser_target


def _seeds() -> list[bytes]:
    info = mapping(name=text("Camera"), version=text("1.0"))
    claims = [mapping(claim_generator=text("Firefly/2")), mapping(claim_generator_info=info)]
    manifests = [store_of(claim, created(URL + AI)) for claim in claims]
    return [*manifests, *(each.encode() for each in FORMS.values())]


def _feed(data: bytes) -> None:
    for found in (read_provenance(data, b""), read_provenance(b"", data)):
        assert not found.digital_source_type or is_source_type(found.digital_source_type)
        assert is_generator(found.claim_generator)


TARGET = parser_target("provenance", _seeds, _feed, allowed=())
