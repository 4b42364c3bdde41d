"""What is known of a medium survives being written as metadata and read back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from avion_media.backends.store import ObjectInfo, stored_facts
from avion_media.common.formats import MP4, OGG
from avion_media.common.media import MediaFacts, readable

WHOLE = MediaFacts(MP4, 10, 320, 240, "hash", "ab" * 32, animated=False, duration_s=1.5)
IN_RANGES = MediaFacts(MP4, 10, 320, 240, "hash", "", animated=False, duration_s=1.5)

SOUND = MediaFacts(OGG, 10, 0, 0, "", "ab" * 32, duration_s=1.5, waveform=bytes(range(100)))

SAID = replace(WHOLE, digital_source_type="trainedAlgorithmicMedia", claim_generator="é  %41 🙂/2")


def original(metadata: dict[str, str]) -> ObjectInfo:
    """Return an original with this metadata."""
    return ObjectInfo("original/x", WHOLE.size_bytes, "e", datetime.now(UTC), "video/mp4", metadata)


@pytest.mark.parametrize("facts", [WHOLE, IN_RANGES, SOUND, SAID], ids=["whole", "in ranges", "sound", "said"])
def test_facts_are_read_back_as_they_were_written(facts: MediaFacts) -> None:
    assert stored_facts(original(facts.to_metadata())) == facts


def test_metadata_are_ascii_without_blanks_and_shown_as_they_were_meant() -> None:
    written = SAID.to_metadata()
    assert written["claim-generator"].isascii()
    assert not set(written["claim-generator"]) & set(" \r\n\t")
    assert readable(written)["claim-generator"] == SAID.claim_generator


def test_the_type_is_told_and_not_needed() -> None:
    metadata = WHOLE.to_metadata()
    assert metadata.pop("type") == "video/mp4"
    assert stored_facts(original(metadata)) == WHOLE


def test_a_digest_that_was_not_computed_is_left_out() -> None:
    assert "sha256" not in IN_RANGES.to_metadata()
    assert WHOLE.to_metadata()["sha256"] == WHOLE.sha256
