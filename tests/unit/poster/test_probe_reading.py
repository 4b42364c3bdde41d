"""`read_probe`: ffprobe's answers, honest and hostile ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.poster.probe import read_probe

MATRIX = """
00000000:            0       65536           0
00000001:       -65536           0           0
00000002:            0           0  1073741824
"""


def _stream(**changes: Any) -> dict[str, Any]:
    stream = {
        "codec_type": "video",
        "codec_name": "h264",
        "width": 800,
        "height": 640,
        "disposition": {"default": 1, "attached_pic": 0},
    }
    return stream | changes


def _answer(*streams: dict[str, Any]) -> bytes:
    return json.dumps({"streams": streams}).encode()


def _reason(answer: bytes) -> Reason:
    with pytest.raises(Rejected) as caught:
        read_probe(answer)
    return caught.value.reason


def test_everything_is_read() -> None:
    stream = _stream(
        sample_aspect_ratio="64:45",
        pix_fmt="yuv420p10le",
        color_space="bt2020nc",
        color_transfer="arib-std-b67",
        color_primaries="bt2020",
        side_data_list=[{"side_data_type": "DOVI configuration record"}, {"displaymatrix": MATRIX}],
    )
    probe = read_probe(_answer(stream))
    assert (probe.width, probe.height) == (640, 1138)
    assert (probe.coded_width, probe.coded_height, probe.coded_pixels) == (800, 640, 512_000)
    assert probe.orientation == 6
    assert (probe.pix_fmt, probe.matrix) == ("yuv420p10le", "bt2020nc")
    assert (probe.transfer, probe.primaries) == ("arib-std-b67", "bt2020")


def test_what_the_video_does_not_say_stays_open() -> None:
    probe = read_probe(_answer(_stream(color_space="unknown", color_transfer="reserved")))
    assert (probe.matrix, probe.transfer, probe.primaries) == ("", "", "")


def test_pictures_and_sound_are_no_video() -> None:
    cover = _stream(codec_name="mjpeg", disposition={"default": 1, "attached_pic": 1})
    sound = {"codec_type": "audio", "disposition": {"default": 1}}
    assert read_probe(_answer(cover, sound, _stream()), "i:7").stream == "i:7"
    assert _reason(_answer(cover, sound)) is Reason.NO_VIDEO
    assert _reason(_answer()) is Reason.NO_VIDEO


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"streams": 1}',
        b"\xff",
        b"[" * 100_000,
        _answer(_stream(width="wide")),
        _answer(_stream(width=float("inf"))),
        _answer(_stream(disposition=None)),
        _answer(_stream(side_data_list=[{"displaymatrix": "0: a b c"}])),
    ],
)
def test_what_cannot_be_read_is_corrupt(answer: bytes) -> None:
    assert _reason(answer) is Reason.CORRUPT


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(_stream())), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*sorted(_stream()), "side_data_list", "sample_aspect_ratio"]), _JSON))
def test_no_answer_of_a_hijacked_ffprobe_escapes_as_another_error(changes: dict[str, Any]) -> None:
    try:
        read_probe(_answer(_stream(**changes)))
    except Rejected:
        pass
