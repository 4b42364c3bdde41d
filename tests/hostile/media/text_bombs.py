"""What is no picture and no video: playlists that fetch, markup that runs, archives, and files that are two things."""

from __future__ import annotations

import io
import zipfile

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import box, jpeg_segment
from mediascrub.tests.samples import DATA
from tests.hostile.media import jpeg_bombs, png_bombs
from tests.hostile.media.bomb import READY, Bomb

_URL = "http://127.0.0.1:9/canary"
_SCRIPT = b"<script>alert(1)</script>"


def _archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.js", "alert(1)")
    return out.getvalue()


def _svg(text: str) -> bytes:
    return f'<?xml version="1.0"?><!-- {"a" * 500} --><svg xmlns="http://www.w3.org/2000/svg">{text}</svg>'.encode()


BOMBS = (
    Bomb("playlist.mp4", lambda: f"#EXTM3U\n#EXTINF:1,\n{_URL}\n".encode(), Reason.UNSUPPORTED_TYPE),
    Bomb("playlist-behind-a-mark.mp4", lambda: f"\ufeff#EXTM3U\n{_URL}\n".encode(), Reason.UNSUPPORTED_TYPE),
    Bomb("playlist-of-files.mov", lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", Reason.UNSUPPORTED_TYPE),
    Bomb("concat.mkv", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n", Reason.UNSUPPORTED_TYPE),
    Bomb("dash.webm", lambda: f"<MPD><BaseURL>{_URL}</BaseURL></MPD>".encode(), Reason.UNSUPPORTED_TYPE),
    Bomb("session.mp4", lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n", Reason.UNSUPPORTED_TYPE),
    Bomb("metadata-script.mp4", lambda: b";FFMETADATA1\ntitle=a\n", Reason.UNSUPPORTED_TYPE),
    Bomb("picture.svg.png", lambda: _svg(f'<image href="{_URL}"/>'), Reason.UNSUPPORTED_TYPE),
    Bomb(
        "entities.svg.jpg",
        lambda: _svg("").replace(b"<!--", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><!--'),
        Reason.UNSUPPORTED_TYPE,
    ),
    Bomb("page.gif", lambda: b"<!DOCTYPE html>" + _SCRIPT, Reason.UNSUPPORTED_TYPE),
    Bomb("page-of-16-bits.webp", lambda: b"\xff\xfe" + "<html>".encode("utf-16-le"), Reason.UNSUPPORTED_TYPE),
    Bomb("script.jpg", lambda: b"<?php system($_GET[0]); ?>", Reason.UNSUPPORTED_TYPE),
    Bomb("program.png", lambda: b"\x7fELF" + bytes(100), Reason.UNSUPPORTED_TYPE),
    Bomb("archive.jpg", _archive, Reason.UNSUPPORTED_TYPE),
    Bomb("document.avif", lambda: b"%PDF-1.7\n" + bytes(100), Reason.UNSUPPORTED_TYPE),
    Bomb("postscript.jpg", lambda: b"%!PS\n(/etc/passwd) (r) file", Reason.UNSUPPORTED_TYPE),
    Bomb(
        "vector-drawing.png",
        lambda: b"push graphic-context\nimage over 0,0 0,0 '|id'\npop graphic-context",
        Reason.UNSUPPORTED_TYPE,
    ),
    Bomb("bitmap.png", lambda: b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(40), Reason.UNSUPPORTED_TYPE),
    Bomb("scan.jpg", lambda: b"II*\0\x08\0\0\0" + bytes(100), Reason.UNSUPPORTED_TYPE),
    Bomb("silence.mp4", lambda: b"ID3\4\0\0\0\0\0\0" + bytes(100), Reason.TYPE_MISMATCH),
    Bomb("noise.jpg", lambda: b"\x01\xfe\x80\x91" * 100, Reason.UNKNOWN_TYPE),
    Bomb("nothing.png", lambda: b"\0", Reason.UNKNOWN_TYPE),
    Bomb("video.jpg", lambda: (DATA / "mp4-h264-rotated-90-tiny.mp4").read_bytes(), Reason.TYPE_MISMATCH),
    Bomb("picture.mp4", lambda: jpeg_bombs.plain(), Reason.TYPE_MISMATCH),
    Bomb("picture-and-page.jpg", lambda: jpeg_bombs.with_segments(jpeg_segment(0xFE, _SCRIPT)), READY),
    Bomb("picture-then-archive.jpg", lambda: jpeg_bombs.plain() + _archive(), READY),
    Bomb("picture-then-page.png", lambda: png_bombs.plain() + _SCRIPT, READY),
    Bomb("picture-then-video.jpg", lambda: jpeg_bombs.plain() + (DATA / "webm-vp8.webm").read_bytes(), READY),
    Bomb("archive-then-picture.jpg", lambda: _archive() + jpeg_bombs.plain(), Reason.UNSUPPORTED_TYPE),
    Bomb(
        "video-then-page.mp4",
        lambda: (DATA / "mp4-h264-rotated-90-tiny.mp4").read_bytes() + box(b"free", _SCRIPT),
        READY,
    ),
)
