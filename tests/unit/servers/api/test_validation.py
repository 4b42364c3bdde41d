"""RequestMediaUpload's fields, one by one and all at once."""

from __future__ import annotations

import pytest

from avion_media.common import formats
from avion_media.config import Config
from avion_media.servers.api.validation import BadRequest, UploadRequest, check_upload_request

LIMITS = Config().upload
ENABLED = Config().decoders.enabled()


def check(
    filename: str = "cat.jpg",
    content_type: str = "image/jpeg",
    size: int = 1000,
    sha256: bytes = b"",
    owner: str = "",
) -> UploadRequest:
    return check_upload_request(filename, content_type, size, sha256, owner, limits=LIMITS, enabled=ENABLED)


def reasons(**fields: object) -> set[str]:
    with pytest.raises(BadRequest) as caught:
        check(**fields)  # type: ignore[arg-type]
    return {violation.reason for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("filename", "content_type", "expected"),
    [
        ("cat.jpg", "image/jpeg", formats.JPEG),
        ("CAT.JPEG", "Image/JPEG; charset=binary", formats.JPEG),
        ("cat.png", "image/jpeg", formats.PNG),  # the key keeps the declared extension
        ("blob", "image/png", formats.PNG),  # phones and browsers
        ("scan.tiff", "image/jpeg", formats.JPEG),  # a wrong name on an accepted type
        ("photo.", "image/jpeg", formats.JPEG),
        ("IMG_1.2024", "image/jpeg", formats.JPEG),
        ("cat.jpg.bak", "image/png", formats.PNG),  # what is in the midst of a name is no extension
        ("cat.txt", "image/gif", formats.GIF),
        ("cat.svg", "video/mp4", formats.MP4),
        (".mov", "video/mp4", formats.MOV),
        ("voice.webm", "audio/webm;codecs=opus", formats.WEBA),
        ("voice.mp4", "audio/mp4", formats.M4A),
        ("фото кота.webp", "image/webp", formats.WEBP),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family.jpg", "image/jpeg", formats.JPEG),  # an emoji of several
        ("Screenshot 2026-11-25 at 10.00.00\u202fAM.png", "image/png", formats.PNG),  # as macOS names them
        ("عکس\u200cها.jpg", "image/jpeg", formats.JPEG),  # a joiner inside a word
        ("clip.mov", "video/quicktime", formats.MOV),
        ("clip.mkv", "video/matroska", formats.MKV),
    ],
)
def test_accepted(filename: str, content_type: str, expected: formats.MediaFormat) -> None:
    assert check(filename, content_type).format is expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"filename": ""}, "FILENAME_REQUIRED"),
        ({"filename": "   "}, "FILENAME_REQUIRED"),
        ({"filename": "a" * 252 + ".jpg"}, "FILENAME_TOO_LONG"),
        ({"filename": "a/b.jpg"}, "FILENAME_INVALID"),
        ({"filename": "a\nb.jpg"}, "FILENAME_INVALID"),
        ({"filename": "a\u2028b.jpg"}, "FILENAME_INVALID"),
        ({"filename": "a\x9bb.jpg"}, "FILENAME_INVALID"),
        ({"filename": "cat.mp4"}, "EXTENSION_MISMATCH"),
        ({"filename": "clip.jpg", "content_type": "video/mp4"}, "EXTENSION_MISMATCH"),
        ({"filename": "clip.webm", "content_type": "audio/ogg"}, "EXTENSION_MISMATCH"),
        ({"filename": "a.ogg", "content_type": "audio/ogg", "size": LIMITS.max_audio_bytes + 1}, "SIZE_TOO_LARGE"),
        ({"content_type": ""}, "CONTENT_TYPE_REQUIRED"),
        ({"content_type": "application/pdf"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content_type": "image/svg+xml"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content_type": "image/jpeg\r\nX: y"}, "CONTENT_TYPE_UNSUPPORTED"),
        ({"content_type": "image/heic", "filename": "cat.heic"}, "CONTENT_TYPE_DISABLED"),
        ({"size": -1}, "SIZE_NEGATIVE"),
        ({"size": 0}, "SIZE_ZERO"),
        ({"size": LIMITS.max_image_bytes + 1}, "SIZE_TOO_LARGE"),
        (
            {"filename": "a.mp4", "content_type": "video/mp4", "size": LIMITS.max_video_bytes + 1},
            "SIZE_TOO_LARGE",
        ),
        ({"sha256": b"x"}, "SHA256_LENGTH"),
        ({"owner": "a/b"}, "OWNER_INVALID"),
        ({"owner": "~"}, "OWNER_INVALID"),
        ({"owner": "x" * 65}, "OWNER_INVALID"),
        ({"owner": "alice\n"}, "OWNER_INVALID"),
        ({"owner": "søren"}, "OWNER_INVALID"),
    ],
)
def test_refused(fields: dict[str, object], reason: str) -> None:
    assert reasons(**fields) == {reason}


def test_a_video_may_be_larger_than_an_image() -> None:
    assert check("a.mp4", "video/mp4", LIMITS.max_image_bytes + 1).format is formats.MP4


def test_all_violations_at_once() -> None:
    assert reasons(filename="", content_type="", size=-5, sha256=b"123") == {
        "FILENAME_REQUIRED",
        "CONTENT_TYPE_REQUIRED",
        "SIZE_NEGATIVE",
        "SHA256_LENGTH",
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"size": 0}, "The file is empty."),
        ({"size": LIMITS.max_image_bytes + 1}, "The file is too large. Images can have 16.0 MiB"),
        ({"content_type": "application/pdf"}, "This type of file is not supported."),
        ({"owner": "a/b"}, ""),
    ],
)
def test_a_person_gets_a_sentence_if_the_file_is_at_fault(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check(**fields)  # type: ignore[arg-type]
    (violation,) = caught.value.violations
    assert violation.sentence.startswith(sentence)
    assert bool(violation.sentence) is bool(sentence)
