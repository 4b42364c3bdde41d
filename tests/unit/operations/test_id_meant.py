"""Which media item a text names, in searches and for `inspect`."""

from __future__ import annotations

import pytest

from avion_media.operations.inspection import id_meant
from tests.remote_ids import known_remote_ids, remote_id_for

UPLOAD = "01M88C0SJ305C5J3D3BYCKGE00"
REMOTE = "https://remote.example/photo.jpg"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (UPLOAD, UPLOAD),
        (f"https://media.example/media/{UPLOAD}", UPLOAD),
        (f"https://media.example/thumbnail/large/{UPLOAD}.jpg?x=1", UPLOAD),
        (f"https://cdn.example/a/media/{UPLOAD}/TOKEN", UPLOAD),
        (REMOTE, str(remote_id_for(REMOTE))),
        (f"https://remote.example/files/{UPLOAD}", str(remote_id_for(f"https://remote.example/files/{UPLOAD}"))),
        (f"http://127.0.0.1:8080/media/{remote_id_for(REMOTE)}", str(remote_id_for(REMOTE))),
        (UPLOAD.lower(), UPLOAD),
        ("owner:alice", "None"),
        ("photo.jpg", "None"),
        ("", "None"),
    ],
)
def test_a_text_means_an_id(text: str, meant: str) -> None:
    assert str(id_meant(text, known_remote_ids())) == meant
