"""Every sample file, through the real API, ends as the manifest says.

The manifest is `tests/data/MANIFEST.tsv`: what each file is, and what is expected of it (``thumbnail``: READY;
``reject``: refused at the door or FAILED with a reason; ``either``). Width and height are those of the picture as
displayed.

What is served is the scrubbed file, byte for byte. That it is clean, and shows the same, is for the same samples in
`tests/unit/scrub` and `tests/unit/container`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from avion_media.common.errors import Reason
from avion_media.common.wire.avion import media_pb2 as wire
from mediascrub import MediaKind, sniff
from mediascrub.tests.made_files import original_of
from mediascrub.tests.videos import apply_patches, examine_bytes
from mediathumbs import fit_within
from tests.conftest import S3Bucket
from tests.service.harness import Service, eventually

DATA = Path(__file__).parent.parent / "data"
SIZES = {"small": 400, "medium": 800, "large": 1600}
_TYPES = {
    "jpg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp", "avif": "image/avif",
    "heic": "image/heic", "mp4": "video/mp4", "mov": "video/quicktime", "webm": "video/webm",
    "mkv": "video/x-matroska", "mpo": "image/jpeg", "tiff": "image/jpeg", "3gp": "video/mp4", "avi": "video/mp4",
    "mp3": "audio/mp3", "ogg": "audio/ogg", "opus": "audio/opus", "flac": "audio/flac", "m4a": "audio/x-m4a",
    "wav": "audio/x-wav", "weba": "audio/webm;codecs=opus",
    "bmp": "image/png", "jxl": "image/png", "tif": "image/png", "pdf": "application/pdf", "svg": "image/svg+xml",
}  # fmt: skip


def rows() -> list[dict[str, str]]:
    """The manifest."""
    with (DATA / "MANIFEST.tsv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """HEIC is tested too."""
    return {"DECODERS__HEIC": "true"}


def declared_type(name: str) -> str:
    """What a client would declare for a file of this name."""
    return _TYPES[name.rpartition(".")[2]]


@pytest.mark.parametrize("row", rows(), ids=[row["file"] for row in rows()])
def test_ends_as_the_manifest_says(row: dict[str, str], service: Service, bucket: S3Bucket) -> None:
    body = (DATA / row["file"]).read_bytes()
    assert hashlib.sha256(body).hexdigest() == row["sha256"]
    status = upload(service, row["file"], body)
    if status is None:
        assert row["expected"] in ("reject", "either")
        return
    if status.state == wire.MediaStatus.READY:
        assert row["expected"] in ("thumbnail", "either")
        check_ready(service, status, row)
        media = service.get(f"/media/{status.media_id}")
        assert media.headers["Content-Type"] == status.content_type
        assert len(media.content) == status.size
        assert media.content == scrubbed(body), "not what the scrub makes of it"
        assert media.headers["Content-Disposition"] == "inline"
    else:
        assert row["expected"] in ("reject", "either"), status
        assert status.state == wire.MediaStatus.FAILED
        assert status.reason in set(Reason)
        check_absent(service, status)
    # The status is told first, so that a crash between the two leaves no medium without one.
    eventually(lambda: not list(incoming(bucket, status.media_id)), "incoming/ to be empty")


def upload(service: Service, name: str, body: bytes) -> wire.MediaStatus | None:
    """The final status; None when the request was refused as invalid."""
    try:
        return service.upload(name, declared_type(name), body)
    except grpc.RpcError as refusal:
        if refusal.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return None


def check_ready(service: Service, status: wire.MediaStatus, row: dict[str, str]) -> None:
    """The size as displayed, thumbnails of that shape, and a blurhash; or a waveform and pictures of it."""
    shape = status.width, status.height
    if status.content_type.startswith("audio/"):
        assert (shape, status.blurhash, len(status.waveform)) == ((0, 0), "", 100)
        shape = 1600, 400
    else:
        assert status.blurhash
        assert not row["width"] or shape == (int(row["width"]), int(row["height"]))
    transparent = "small.webp" in status.thumbnails
    sizes = SIZES | ({"full": 4096} if status.content_type == "image/heic" else {})
    assert set(status.thumbnails) == {*sizes, *(f"{name}.webp" for name in sizes if transparent)}
    for name, path in status.thumbnails.items():
        fmt, modes = ("WEBP", ["RGBA"]) if name.endswith(".webp") else ("JPEG", ["RGB", "L"])
        response = service.get(path)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == f"image/{fmt.lower()}"
        with Image.open(io.BytesIO(response.content), formats=[fmt]) as thumbnail:
            thumbnail.load()
            assert thumbnail.mode in modes
            expected = fit_within(*shape, sizes[name.removesuffix(".webp")])
            assert max(abs(a - b) for a, b in zip(thumbnail.size, expected, strict=True)) <= 1


def scrubbed(body: bytes) -> bytes:
    """What may be served of a file."""
    fmt = sniff(body, size=len(body)).format
    assert fmt is not None
    if fmt.kind is MediaKind.IMAGE:
        return original_of(body, fmt)
    return apply_patches(examine_bytes(body, fmt).patches, body)


def check_absent(service: Service, status: wire.MediaStatus) -> None:
    """Nothing of a refused file can be had."""
    assert service.get(f"/media/{status.media_id}").status_code == 404
    assert service.get(f"/thumbnail/small/{status.media_id}").status_code == 404


def incoming(bucket: S3Bucket, media_id: str) -> Iterator[str]:
    """What is left under ``incoming/``."""
    for each in bucket.client.list_objects_v2(Bucket=bucket.bucket, Prefix=f"incoming/{media_id}").get("Contents", ()):
        yield each["Key"]
