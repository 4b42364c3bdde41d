"""H.264 parameter sets of any picture size (ITU-T H.264, 7.3.2.1), which no encoder would write."""

from __future__ import annotations

import struct


def h264_parameters(width: int, height: int) -> bytes:
    """An ``avcC`` of a Baseline stream whose pictures have this size (multiples of 16)."""
    sequence = b"\x67\x42\x00\x3e" + _bits(
        _golomb(0),  # seq_parameter_set_id
        _golomb(0),  # log2_max_frame_num_minus4
        _golomb(2),  # pic_order_cnt_type
        _golomb(1),  # max_num_ref_frames
        "0",  # gaps_in_frame_num_value_allowed_flag
        _golomb(width // 16 - 1),
        _golomb(height // 16 - 1),
        "1",  # frame_mbs_only_flag
        "0",  # direct_8x8_inference_flag
        "0",  # frame_cropping_flag
        "0",  # vui_parameters_present_flag
    )
    picture = b"\x68" + _bits(_golomb(0), _golomb(0), "0", "0", _golomb(0), _golomb(0), _golomb(0), "0", "00") + b"\x80"
    sets = b"\xe1" + struct.pack(">H", len(sequence)) + sequence + b"\x01" + struct.pack(">H", len(picture)) + picture
    return b"\x01\x42\x00\x3e\xff" + sets


def _golomb(value: int) -> str:
    binary = f"{value + 1:b}"
    return "0" * (len(binary) - 1) + binary


def _bits(*fields: str) -> bytes:
    text = "".join(fields) + "1"  # the stop bit
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
