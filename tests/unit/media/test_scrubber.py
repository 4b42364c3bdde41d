"""mediascrub in the service's terms: which refusal goes before which, and a reason for each of its errors."""

from __future__ import annotations

import pytest

from avion_media.common.errors import Reason, Rejected
from avion_media.common.formats import BY_NAME, FORMATS, GIF, M4A, MP4, Family
from avion_media.media.job_errors import rejection_of
from avion_media.media.scrubber import REASONS, require_format
from mediascrub import Format, ScrubCode, ScrubError, Sniffed, sniff
from trio_sandbox import InputRejected

ALL = frozenset(each.name for each in FORMATS)
_MP4 = b"\0\0\0\x10ftypisom\0\0\0\0"


def _found(content: bytes) -> Sniffed:
    return sniff(content, size=len(content))


def test_the_service_accepts_the_formats_of_mediascrub() -> None:
    assert {fmt.value: fmt.kind.value for fmt in Format} == {name: str(fmt.family) for name, fmt in BY_NAME.items()}


@pytest.mark.parametrize("code", ScrubCode)
def test_each_error_becomes_a_refusal(code: ScrubCode) -> None:
    refused = rejection_of(ScrubError(code, "why"))
    assert isinstance(refused, InputRejected)
    assert (refused.code, refused.detail) == (REASONS[code], "why")


@pytest.mark.parametrize(
    ("content", "declared", "enabled", "reason"),
    [
        (b"", Family.IMAGE, ALL, Reason.EMPTY),
        (b"", Family.VIDEO, frozenset[str](), Reason.EMPTY),
        (_MP4, Family.IMAGE, ALL, Reason.TYPE_MISMATCH),
        (b"GIF89a", Family.VIDEO, frozenset[str](), Reason.TYPE_MISMATCH),
        (b"<svg/>", Family.VIDEO, ALL, Reason.TYPE_MISMATCH),
        (b"OggS", Family.VIDEO, ALL, Reason.TYPE_MISMATCH),
        (b"GIF89a", Family.AUDIO, ALL, Reason.TYPE_MISMATCH),
        (_MP4, Family.AUDIO, ALL - {"m4a"}, Reason.UNSUPPORTED_TYPE),
        (b"<svg/>", Family.IMAGE, ALL, Reason.UNSUPPORTED_TYPE),
        (b"%PDF-1.7", Family.IMAGE, ALL, Reason.UNSUPPORTED_TYPE),
        (b"#EXTM3U\n", Family.VIDEO, ALL, Reason.UNSUPPORTED_TYPE),
        (b"GIF89a", Family.IMAGE, ALL - {"gif"}, Reason.UNSUPPORTED_TYPE),
        (b"\x00\x01\x02\x03", Family.IMAGE, ALL, Reason.UNKNOWN_TYPE),
    ],
)
def test_a_refusal_carries_the_most_telling_reason(
    content: bytes, declared: Family, enabled: frozenset[str], reason: Reason
) -> None:
    with pytest.raises(Rejected) as refused:
        require_format(_found(content), declared, enabled)
    assert refused.value.reason is reason


def test_another_type_of_the_declared_family_is_taken_as_what_it_is() -> None:
    assert require_format(_found(b"GIF89a"), Family.IMAGE, ALL) is GIF
    assert [require_format(_found(_MP4), declared, ALL) for declared in (Family.AUDIO, None)] == [M4A, MP4]
