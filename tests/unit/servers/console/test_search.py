"""Which media item the text of a search means."""

from __future__ import annotations

import pytest

from avion_media.common.ids import remote_id_for
from avion_media.servers.console.media_list import id_meant

UPLOAD = "01M88C0SJ305C5J3D3BYCKGE00"
REMOTE = "https://remote.example/photo.jpg"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (UPLOAD, UPLOAD),
        (f"https://media.example/media/{UPLOAD}", UPLOAD),
        (f"https://media.example/thumbnail/large/{UPLOAD}.jpg?x=1", UPLOAD),
        (REMOTE, str(remote_id_for(REMOTE))),
        (f"http://127.0.0.1:8080/media/{remote_id_for(REMOTE)}", str(remote_id_for(REMOTE))),
        (UPLOAD.lower(), "None"),
        ("owner:alice", "None"),
        ("photo.jpg", "None"),
        ("", "None"),
    ],
)
def test_a_text_means_an_id(text: str, meant: str) -> None:
    assert str(id_meant(text)) == meant
