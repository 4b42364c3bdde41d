"""Detects the type of a file by its content alone: an accepted format, or the name of another type.

The declared type and the file's name are ignored. Text is never media: playlists, SVG, HTML and scripts are detected
only to name them in logs, and refused.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from mediascrub import mp3, wav
from mediascrub.errors import ScrubError
from mediascrub.formats import Format, MediaKind
from mediascrub.isobmff import PADDING, box_at, codes
from mediascrub.matroska.ebml import parse_element

# Enough for every decision below: the longest is a vector image whose root element follows a comment.
HEAD_BYTES = 4096
UNKNOWN = "unknown"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The type of the content."""

    format: Format | None  # None if it is not supported
    name: str  # of the format, or of another type ("svg", "pdf", "bmp", …), "unknown" or "empty"
    kind: MediaKind | None = None  # of the content, if it has one, also if it is not supported


def sniff(head: bytes, *, size: int) -> Sniffed:
    """Name the content of a file of ``size`` bytes by its ``head``, its first `HEAD_BYTES`. Never raises."""
    if size <= 1:  # one byte says nothing, not even that it is text
        return Sniffed(None, UNKNOWN if size == 1 else EMPTY)
    head = bytes(head[:HEAD_BYTES])
    found = _by_signature(head) or _by_boxes(head, size) or _by_ebml(head) or _by_text(head)
    if found is None:
        return Sniffed(None, UNKNOWN)
    if isinstance(found, Format):
        return Sniffed(found, found.value, found.kind)
    return Sniffed(None, found, _OTHER_KINDS.get(found))


_Found = Format | str | None

# First match wins. Only signatures of four bytes or more, except where a check in `_by_signature` backs them.
_SIGNATURES: tuple[tuple[Format | str, tuple[bytes, ...]], ...] = (
    (Format.PNG, (b"\x89PNG\r\n\x1a\n",)),
    (Format.JPEG, (b"\xff\xd8\xff",)),
    (Format.GIF, (b"GIF87a", b"GIF89a")),
    ("jxl", (b"\x00\x00\x00\x0cJXL \r\n\x87\n", b"\xff\x0a")),
    ("jp2", (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("tiff", (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
    ("mng", (b"\x8aMNG\r\n\x1a\n",)),
    ("jng", (b"\x8bJNG\r\n\x1a\n",)),
    ("psd", (b"8BPS",)),
    ("qoi", (b"qoif",)),
    ("ico", (b"\x00\x00\x01\x00",)),
    ("flv", (b"FLV\x01",)),
    ("asf", (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",)),
    ("mpeg-ps", (b"\x00\x00\x01\xba",)),
    (Format.OGG, (b"OggS",)),
    (Format.FLAC, (b"fLaC",)),
    (Format.MP3, (b"ID3",)),
    ("pdf", (b"%PDF-",)),
    ("postscript", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("zip", (b"PK\x03\x04", b"PK\x05\x06")),
    ("gzip", (b"\x1f\x8b\x08",)),
    ("rar", (b"Rar!\x1a\x07",)),
    ("7z", (b"7z\xbc\xaf\x27\x1c",)),
    ("elf", (b"\x7fELF",)),
    ("wasm", (b"\x00asm",)),
)
_RIFF_FORMS: dict[bytes, Format | str] = {b"WEBP": Format.WEBP, b"AVI ": "avi", b"WAVE": Format.WAV, b"ACON": "ani"}
_BMP_HEADER_SIZES = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_TS_PACKET_BYTES = 188

_OTHER_KINDS: dict[str, MediaKind] = {
    **dict.fromkeys(("jxl", "jp2", "tiff", "jng", "psd", "qoi", "ico", "bmp", "svg", "cr3", "ani"), MediaKind.IMAGE),
    **dict.fromkeys(("flv", "asf", "mpeg-ps", "mpeg-ts", "avi", "mng"), MediaKind.VIDEO),
}


def _by_signature(head: bytes) -> _Found:
    for found, signatures in _SIGNATURES:
        if head.startswith(signatures):
            return found
    if head.startswith(b"RIFF"):
        return _RIFF_FORMS.get(head[8:12])
    if head.startswith(wav.FORMS):
        return Format.WAV if head[8:12] == b"WAVE" else None
    if (length := mp3.frame_bytes(head[: mp3.HEAD_BYTES])) and mp3.frame_bytes(head[length : length + mp3.HEAD_BYTES]):
        return Format.MP3
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if head.startswith(b"MZ") and len(head) > 64 and 0 in head[:64]:
        return "exe"
    if len(head) > 2 * _TS_PACKET_BYTES and head[: 2 * _TS_PACKET_BYTES + 1 : _TS_PACKET_BYTES] == b"GGG":
        return "mpeg-ts"
    return None


# --- ISO base media files ---------------------------------------------------------------------------------------

AVIF_BRANDS = codes("avif avis")
HEIF_BRANDS = codes("heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1")
MP4_BRANDS = codes(
    "isom iso2 iso3 iso4 iso5 iso6 iso7 iso8 iso9 isoa isob isoc mp41 mp42 mp71 avc1 av01 dash cmfc cmf2 MSNV mmp4 "
    "M4V M4VH M4VP F4V f4v"
)
# Their beginnings. Phones write H.264 as 3GP; the boxes are those of MP4, and its reader refuses unknown codecs.
BRANDS_OF_3GP = (b"3gp", b"3g2", b"3ge", b"3gg", b"3gr", b"3gs")
_BY_MAJOR: dict[bytes, Format | str] = {b"qt  ": Format.MOV, b"crx ": "cr3"}
_BY_MAJOR |= dict.fromkeys(AVIF_BRANDS, Format.AVIF) | dict.fromkeys(codes("M4A M4B M4P F4A F4B"), Format.M4A)
# Cameras put their maker's brand first (XAVC, niko, …), and the format after it.
_BY_ANY = (
    (Format.MP4, MP4_BRANDS),
    (Format.MOV, codes("qt")),
    (Format.AVIF, AVIF_BRANDS),
    (Format.HEIC, HEIF_BRANDS),
)
# Before ``ftyp`` existed (2001), QuickTime files began with any of these.
_OLD_QUICKTIME = frozenset((b"moov", b"mdat"))
_PADDING = PADDING | {b"pnot"}


def _by_boxes(head: bytes, size: int) -> _Found:
    """Walk the top-level boxes up to the one that decides."""
    offset = 0
    while len(head) - offset >= 8:
        try:
            box = box_at(head, offset, offset, size)
        except ScrubError:
            return None
        # Text can spell a box type at the right place, but then claims a length of gigabytes.
        if box.end > size:
            return None
        if box.type == b"ftyp":
            return _by_brands(head[box.payload : box.end])
        if box.type in _OLD_QUICKTIME:
            return Format.MOV
        if box.type not in _PADDING:
            return None
        offset = box.end
    return Format.MOV if 0 < offset < size else None


def _by_brands(payload: bytes) -> _Found:
    major = payload[:4]
    brands = frozenset(payload[start : start + 4] for start in range(8, len(payload) - 3, 4)) | {major}
    if major in HEIF_BRANDS:
        return Format.AVIF if brands & AVIF_BRANDS else Format.HEIC
    if major.startswith(BRANDS_OF_3GP):
        return Format.MP4
    by_any = (found for found, listed in _BY_ANY if brands & listed)
    return _BY_MAJOR.get(major) or next(by_any, "isobmff")


# --- EBML -------------------------------------------------------------------------------------------------------

_EBML = b"\x1a\x45\xdf\xa3"
_DOC_TYPE = 0x4282
_DOC_TYPES: dict[bytes, Format] = {b"webm": Format.WEBM, b"matroska": Format.MKV}


def _by_ebml(head: bytes) -> _Found:
    if not head.startswith(_EBML):
        return None
    with suppress(ScrubError):
        header = parse_element(head, 0, 0)
        element = parse_element(head, header.payload, header.payload)
        while element.id != _DOC_TYPE and element.end < header.end:
            element = parse_element(head, element.end, element.end)
        if element.id == _DOC_TYPE:
            return _DOC_TYPES.get(head[element.payload : element.end].rstrip(b"\x00"), "ebml")
    return "ebml"


# --- text -------------------------------------------------------------------------------------------------------

_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SCRIPTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"#EXTM3U|#EXT-X-"), "hls"),
    (re.compile(r"ffconcat\s"), "ffconcat"),
    (re.compile(r"#!|<\?(?:php|=)"), "script"),
    (re.compile(r"<!doctype\s+html", re.I), "html"),
)
# Declarations, comments and a document type before the root element.
_PROLOG = re.compile(r"(?:<\?.*?\?>|<!--.*?-->|<!doctype[^>\[]*(?:\[.*?\]\s*)?>)\s*", re.I | re.S)
_ROOT_ELEMENT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)")
_MARKUP = dict.fromkeys(("html", "head", "body", "script", "iframe", "title", "style", "meta", "div", "p", "a"), "html")
_MARKUP |= {"svg": "svg", "mpd": "dash"}


def _by_text(head: bytes) -> _Found:
    text = _as_text(head)
    if text is None:
        return None
    text = text.lstrip()
    for pattern, name in _SCRIPTS:
        if pattern.match(text):
            return name
    offset = 0
    while prolog := _PROLOG.match(text, offset):
        offset = prolog.end()
    if root := _ROOT_ELEMENT.match(text, offset):
        return _MARKUP.get(root[1].lower(), "xml")
    return "xml" if text.startswith(("<?xml", "<!--")) else "text"


def _as_text(head: bytes) -> str | None:
    """Return the head as text, or None if it is binary."""
    encoding = "utf-8"
    for mark, marked in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            head, encoding = head[len(mark) :], marked
    # The head may end inside a character, whose bytes are dropped.
    text = head.decode(encoding, "ignore")
    if len(text.encode(encoding)) + 3 < len(head) or _CONTROL.search(text):
        return None
    return text
