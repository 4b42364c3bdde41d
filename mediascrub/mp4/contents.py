"""What stays of the content of each box: how many bytes, or which of them. What follows them is overwritten.

Boxes of sample entries are also the properties of HEIF's items. Sources: ISO/IEC 14496-12, 14496-14, 14496-15, 23003-5,
23008-12, QuickTime File Format; "Spatial Media" (Google); ETSI TS 102 366, 103 190, 102 114; the encapsulations of AV1,
VP9, Opus, FLAC and ALAC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from mediascrub.codec_private import neutral_esds, neutral_flac_blocks, neutral_vorbis_headers
from mediascrub.coded_data import Change, nal, obu
from mediascrub.errors import ScrubError
from mediascrub.icc import neutral_colr
from mediascrub.isobmff import Box, codes

Length = int | tuple[int, int] | Callable[[Box], int]
"""The most bytes of content; or those before a table, which end with its number of entries, and those of an entry."""

_ROLLS = {b"roll": 2, b"prol": 2, b"rap ": 1, b"sync": 1}  # groups of samples, and the bytes of a description


def content_bytes(box: Box, length: Length) -> int:
    """Return how many bytes of the content stay. Of a table that is cut off nothing stays."""
    if isinstance(length, int):
        return min(length, len(box.content))
    try:
        if isinstance(length, tuple):
            total = length[0] + box.integers("I", length[0] - 4)[0] * length[1]
        else:
            total = length(box)
    except ScrubError:
        return 0
    return total if total <= len(box.content) else 0


# --- tables ---------------------------------------------------------------------------------------------------------


def _elst_bytes(box: Box) -> int:
    version, count = box.integers("B3xI")
    return 8 + count * (20 if version == 1 else 12)


def _stsz_bytes(box: Box) -> int:
    constant_size, count = box.integers("II", 4)
    return 12 + (0 if constant_size else 4 * count)


def _stz2_bytes(box: Box) -> int:
    bits, count = box.integers("BI", 7)
    return 12 + (count * bits + 7) // 8


def _sgpd_bytes(box: Box) -> int:
    version, each, count = box.integers("B7xII")
    return 16 + count * each if version == 1 and each == _ROLLS.get(bytes(box.at(4, 4))) else 0


def _sbgp_bytes(box: Box) -> int:
    head = 16 if box.integers("B") == (1,) else 12
    return head + 8 * box.integers("I", head - 4)[0] if bytes(box.at(4, 4)) in _ROLLS else 0


def _trun_bytes(box: Box) -> int:
    flags, count = box.integers("II")
    return 8 + 4 * (flags & 0x1) + (flags & 0x4) + 4 * count * (flags & 0xF00).bit_count()


def tfra_entry_bytes(version: int, sizes: int) -> int:
    """Return the length of an entry of ``tfra``, by its version and the field with the sizes of its numbers."""
    return (16 if version else 8) + 3 + (sizes >> 4 & 3) + (sizes >> 2 & 3) + (sizes & 3)


def _tfra_bytes(box: Box) -> int:
    version, sizes, count = box.integers("B3x4xII")
    return 16 + count * tfra_entry_bytes(version, sizes)


def sidx_bytes(box: Box) -> int:
    """Return the length of a segment index."""
    head = 24 if box.integers("B") == (0,) else 32
    return head + 12 * box.integers("H", head - 2)[0]


CLEANED = 1 << 32
"""The length of a parent that is in the table below, or of a box that is cleaned in other ways."""
# What players do not need is not among them: hints for editing and servers (load, stsh, padb, stdp, subs, leva), which
# pictures nobody refers to (sdtp).
STAYS: dict[bytes, dict[bytes, Length]] = {
    b"moov": {b"mvhd": 112, **dict.fromkeys(codes("trak mvex"), CLEANED)},
    b"trak": {b"tkhd": 96, **dict.fromkeys(codes("tapt edts tref mdia"), CLEANED)},
    b"tapt": dict.fromkeys(codes("clef prof enof"), 12),
    b"edts": {b"elst": _elst_bytes},
    b"mdia": {b"mdhd": 36, **dict.fromkeys(codes("hdlr minf elng"), CLEANED)},
    b"minf": {b"vmhd": 12, b"smhd": 8, b"sthd": 4, b"nmhd": 4, **dict.fromkeys(codes("gmhd hdlr dinf stbl"), CLEANED)},
    b"gmhd": {b"gmin": 16},
    b"dinf": {b"dref": CLEANED},
    b"stbl": {
        b"stsd": CLEANED,
        **dict.fromkeys(codes("stts ctts co64"), (8, 8)),
        b"cslg": lambda box: 44 if box.integers("B") == (1,) else 24,
        **dict.fromkeys(codes("stss stps stco"), (8, 4)),
        b"stsc": (8, 12),
        b"stsz": _stsz_bytes,
        b"stz2": _stz2_bytes,
        b"sgpd": _sgpd_bytes,
        b"sbgp": _sbgp_bytes,
    },
    b"mvex": {b"mehd": 12, b"trex": 24},
    b"moof": {b"mfhd": 8, b"traf": CLEANED},
    b"traf": {b"tfhd": 28, b"tfdt": 12, b"trun": _trun_bytes, b"sgpd": _sgpd_bytes, b"sbgp": _sbgp_bytes},
    b"mfra": {b"tfra": _tfra_bytes, b"mfro": 8},
}
"""The children to keep in each kind of parent."""


# --- sample entries and properties ----------------------------------------------------------------------------------


def _opus_bytes(box: Box) -> int:
    channels, family = box.integers("B8xB", 1)
    return 11 if family == 0 else 13 + channels


def _clap_bytes(box: Box) -> int:
    """Return the length of an aperture, of numbers that fit a picture."""
    return 32 if set(box.at(0, 32)[::4]) <= {0, 255} else 0


def _mastering_bytes(box: Box) -> int:
    """Return the length of a mastering display, at whose end are its luminances: not as high as in a text."""
    length = 28 if box.type == b"SmDm" else 24
    return length if max(box.at(length - 8, 8)[::4]) < 8 else 0


_LENGTHS: dict[bytes, Length] = {
    **dict.fromkeys(codes("a1op imir irot"), 1),
    **dict.fromkeys(codes("enda fiel lsel"), 2),
    b"dac3": 3,
    **dict.fromkeys(codes("clli frma gama hfov mp4a svhd"), 4),  # of svhd not the name of the tool that wrote it
    **dict.fromkeys(codes("hero st3d stri"), 5),
    b"pcmC": 6,
    b"d263": 7,
    **dict.fromkeys(codes("CoLL amve blin ccst dadj dvcC dvvC dvwC pasp pkin prji srat"), 8),  # of dvcC the rest is 0
    **dict.fromkeys(codes("damr pixi"), 9),
    b"dmlp": 10,
    **dict.fromkeys(codes("btrt cbmp ispe vpcC"), 12),
    b"a1lx": 13,
    b"chnl": 15,
    **dict.fromkeys(codes("ACLR dec3 must prhd"), 16),
    **dict.fromkeys((*codes("ddts equi"), b"ms\0\x11"), 20),
    b"alac": lambda box: 0 if box.at(8, 1)[0] else 28,  # its version, where a text has a letter
    b"ms\0\2": 50,
    b"SA3D": (12, 4),
    b"chan": (16, 20),
    b"clap": _clap_bytes,
    **dict.fromkeys(codes("SmDm mdcv"), _mastering_bytes),
    b"dOps": _opus_bytes,
    # What decoders of AC-4 and MPEG-H need cannot be told from the rest. A caption's header is shown.
    **dict.fromkeys(codes("dac4 mhaC vttC"), 1 << 32),
}
_CHILDREN: dict[bytes, frozenset[bytes]] = {
    b"sv3d": codes("svhd proj"),
    b"proj": codes("prhd equi cbmp prji"),
    b"vexu": codes("eyes must pack proj"),
    b"eyes": codes("stri hero cams cmfy"),
    b"cams": codes("blin"),
    b"cmfy": codes("dadj"),
    b"pack": codes("pkin"),
    b"wave": codes("frma enda mp4a esds alac chan dac3 damr") | {b"ms\0\2", b"ms\0\x11"},
}
_TERMINATOR = b"\0\0\0\0"  # in ``wave``: an empty box


def _configuration(changes_of: Callable[[bytes], Iterable[Change]], content: bytes) -> bytes:
    clean = bytearray(content)
    for offset, new in changes_of(content):
        clean[offset : offset + len(new)] = new
    return bytes(clean)


_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")


def _transparency(content: bytes) -> bytes:
    """Return the kind of an auxiliary picture, if it is transparency."""
    return next((content[: 4 + len(name)] for name in _ALPHA if content.startswith(name, 4)), b"")


_CLEANED: dict[bytes, Callable[[bytes], bytes]] = {
    **dict.fromkeys((b"avcC", b"avcE"), partial(_configuration, nal.H264.changes_of_private)),
    **dict.fromkeys((b"hvcC", b"hvcE"), partial(_configuration, nal.HEVC.changes_of_private)),
    b"lhvC": partial(_configuration, partial(nal.HEVC.changes_of_private, arrays_at=5)),
    b"av1C": partial(_configuration, obu.changes_of_private),
    b"colr": lambda content: neutral_colr(memoryview(content)),
    **dict.fromkeys((b"auxC", b"auxi"), _transparency),
    b"dfLa": lambda content: content[:4] + neutral_flac_blocks(content[4:]),
    b"esds": neutral_esds,
    b"glbl": lambda content: neutral_vorbis_headers(content) if content.startswith(b"\2") else b"",
}


def kept_content(box: Box) -> bytes:
    """Return what stays of the content of a box in a sample entry, or of a property; empty if nothing does."""
    if box.type in _CHILDREN:
        return _kept_children(box)
    if box.type in _CLEANED:
        return _CLEANED[box.type](bytes(box.content))
    return bytes(box.content[: content_bytes(box, _LENGTHS.get(box.type, 0))])


def _kept_children(parent: Box) -> bytes:
    """Return the content of a parent, of the same length: other boxes than those of the table become ``free``."""
    written = b""
    found = False
    for box in parent.walk():
        start = box.offset - parent.payload
        head = bytes(parent.content[start : start + box.header])
        kept = kept_content(box) if box.type in _CHILDREN[parent.type] else b""
        if not kept and box.type != _TERMINATOR:
            head = head[:4] + b"free" + head[8:]
        written += (head + kept).ljust(box.size, b"\0")
        found = found or bool(kept)
    return written.ljust(len(parent.content), b"\0") if found else b""
