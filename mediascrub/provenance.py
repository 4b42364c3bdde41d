"""How a file says that it was made: IPTC's code of its source, and the program. Nobody has verified it.

Both are in the claim and the actions of a C2PA manifest (C2PA 2.2, 10 and 18.15); the code can also be in XMP (IPTC
Photo Metadata Standard, Digital Source Type). A manifest that cannot be read says nothing.

The code is a fact about the picture and about nobody, so a caller can keep it where he keeps content credentials:
`labelled` writes it as the only property of XMP.
"""

from __future__ import annotations

import json
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from mediascrub.cbor import read_cbor
from mediascrub.errors import ScrubError
from mediascrub.formats import Format
from mediascrub.isobmff import Box, file_of_boxes, first
from mediascrub.jpeg import XMP_PREFIX
from mediascrub.picture import Picture
from mediascrub.png import make_chunk

MAX_READ_BYTES: Final = 4 << 20
"""Maximum size of a manifest that is read, in bytes."""
MAX_GENERATOR_BYTES: Final = 255
_MAX_XMP_BYTES: Final = 1 << 20
_MAX_BOXES: Final = 1000
_CODES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)
_CODE_URL: Final = rf"https?://cv\.iptc\.org/newscodes/digitalsourcetype/({_CODE.pattern})/?"
_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_PREFIX: Final = re.compile(rf"xmlns:([A-Za-z_][A-Za-z0-9_.-]{{0,30}})\s{{0,9}}=\s{{0,9}}[\"']{re.escape(_IPTC)}[\"']")
_SOURCE: Final = "DigitalSourceType"
_XMP_OF_WEBP, _ALPHA_OF_WEBP, _ALPHA_OF_VP8L = 0x04, 0x10, 1 << 28
_JUMB: Final = b"jumb"
_MAX_LABEL_BYTES: Final = 100
_PNG_HEAD_BYTES: Final = 33  # signature and IHDR
_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    f' xmlns:Iptc4xmpExt="{_IPTC}" Iptc4xmpExt:{_SOURCE}="{{code}}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file says of its making; empty texts where it does not."""

    digital_source_type: str = ""  # the last part of IPTC's code, such as ``trainedAlgorithmicMedia``
    claim_generator: str = ""


NOTHING_SAID: Final = Provenance()


def is_source_type(text: object) -> bool:
    """Return whether this has the form of the last part of a code of IPTC. Codes that are not known count."""
    return isinstance(text, str) and _CODE.fullmatch(text) is not None


def is_generator(text: object) -> bool:
    """Return whether this can be the name of a program: `MAX_GENERATOR_BYTES` without control characters."""
    if not isinstance(text, str) or not text.isprintable():  # so it has no surrogates either, and can be encoded
        return False
    return len(text.encode()) <= MAX_GENERATOR_BYTES


def read_provenance(manifest: bytes, xmp: bytes) -> Provenance:
    """Return what a manifest and a packet of XMP say; either can be empty. The code of the manifest has precedence.

    Never raises: what cannot be read says nothing.
    """
    found = NOTHING_SAID
    with suppress(ScrubError):
        found = _of_manifest(manifest) if len(manifest) <= MAX_READ_BYTES else found
    return found if found.digital_source_type else Provenance(_of_xmp(xmp), found.claim_generator)


def _of_xmp(packet: bytes) -> str:
    """Return the code in a packet. It is not parsed: the text around the code is as its writers make it."""
    text = packet[:_MAX_XMP_BYTES].decode(errors="replace")
    for prefix in islice(_PREFIX.finditer(text), 4):
        name = re.escape(f"{prefix[1]}:{_SOURCE}")
        as_attribute = rf"\s{{0,9}}=\s{{0,9}}[\"']{_CODE_URL}[\"']"
        as_resource = rf"\s[^<>]{{0,500}}?:resource\s{{0,9}}=\s{{0,9}}[\"']{_CODE_URL}[\"']"
        as_element = rf"(?:\s[^<>]{{0,500}})?>\s{{0,99}}{_CODE_URL}\s{{0,99}}<"
        found = re.search(f"[<\\s]{name}(?:{as_attribute}|{as_resource}|{as_element})", text, re.ASCII)
        if found is not None:
            return str(found[found.lastindex or 1])
    return ""


def _of_manifest(store: bytes) -> Provenance:
    """Return what the last manifest of a store says, which is the active one. Raises `ScrubError`."""
    superbox = first(file_of_boxes(memoryview(store), _MAX_BOXES).children(), _JUMB)
    manifests = _superboxes(superbox) if superbox is not None else []
    if not manifests:
        return NOTHING_SAID
    parts = dict(map(_labelled, _superboxes(manifests[-1])))
    claim = parts.get("c2pa.claim.v2") or parts.get("c2pa.claim")
    assertions = parts.get("c2pa.assertions")
    labelled = map(_labelled, _superboxes(assertions)) if assertions is not None else ()
    actions = [_value(box) for label, box in labelled if label.startswith("c2pa.actions")]
    return Provenance(_source_of(actions), _generator_of(_value(claim)) if claim is not None else "")


def _superboxes(box: Box) -> list[Box]:
    return [each for each in box.walk(strict=True) if each.type == _JUMB]


def _labelled(superbox: Box) -> tuple[str, Box]:
    """Return a superbox behind its label, which is in its description: a type of 16 bytes, flags, and the label."""
    description = first(superbox.children(strict=True), b"jumd")
    label = bytes(description.content[17:]).partition(b"\0")[0] if description is not None else b""
    return label[:_MAX_LABEL_BYTES].decode(errors="replace"), superbox


def _value(superbox: Box) -> Any:
    """Return the content of a superbox in CBOR or JSON; None if it has another one."""
    for box in superbox.walk(strict=True):
        if box.type == b"cbor":
            return read_cbor(bytes(box.content))
        if box.type == b"json":
            with suppress(ValueError, RecursionError):
                return json.loads(bytes(box.content))
    return None


def _source_of(assertions: list[Any]) -> str:
    """Return the code of the action that created the file."""
    for assertion in assertions:
        actions = assertion.get("actions") if isinstance(assertion, dict) else None
        for action in actions if isinstance(actions, list) else ():
            if not isinstance(action, dict) or action.get("action") != "c2pa.created":
                continue
            url = action.get("digitalSourceType")
            if isinstance(url, str) and (found := re.fullmatch(_CODE_URL, url, re.ASCII)):
                return found[1]
    return ""


def _generator_of(claim: Any) -> str:
    """Return the program of a claim: its own name for it, or name and version."""
    if not isinstance(claim, dict):
        return ""
    info = claim.get("claim_generator_info")
    first = info[0] if isinstance(info, list) and info else info
    names = [first.get("name"), first.get("version")] if isinstance(first, dict) else []
    known = claim.get("claim_generator") or " ".join(each for each in names if isinstance(each, str))
    return _cut(known) if isinstance(known, str) else ""


def _cut(text: str) -> str:
    printable = "".join(filter(str.isprintable, text[: 4 * MAX_GENERATOR_BYTES]))
    return printable.encode()[:MAX_GENERATOR_BYTES].decode(errors="ignore").strip()


def labelled(picture: Picture, code: str) -> bytes:
    """Return the scrubbed original of a picture with this code as its only XMP; unchanged in a format without a place
    for it here (GIF, AVIF, HEIC)."""
    original = bytes(picture.original)
    packet = _PACKET.replace("{code}", f"{_CODES}{code}").encode()
    if picture.format is Format.JPEG:
        return _in_jpeg(original, XMP_PREFIX + packet)
    if picture.format is Format.PNG:
        chunk = make_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet)
        return original[:_PNG_HEAD_BYTES] + chunk + original[_PNG_HEAD_BYTES:]
    if picture.format is Format.WEBP:
        return _in_webp(original, packet, picture)
    return original


def _in_jpeg(original: bytes, content: bytes) -> bytes:
    """Insert a segment behind JFIF and Exif, which belong to the start."""
    offset = 2
    while original[offset : offset + 2] in (b"\xff\xe0", b"\xff\xe1"):
        offset += 2 + int.from_bytes(original[offset + 2 : offset + 4], "big")
    segment = struct.pack(">2sH", b"\xff\xe1", 2 + len(content)) + content
    return original[:offset] + segment + original[offset:]


def _in_webp(original: bytes, packet: bytes, picture: Picture) -> bytes:
    """Append a chunk. A file of one chunk gets the header of an extended file, without which it can have no other."""
    chunks = bytearray(original[12:])
    if chunks[:4] != b"VP8X":
        is_clear = chunks[:4] == b"VP8L" and int.from_bytes(chunks[9:13], "little") & _ALPHA_OF_VP8L
        edges = [(edge - 1).to_bytes(3, "little") for edge in (picture.width, picture.height)]
        flags = bytes((_ALPHA_OF_WEBP if is_clear else 0, 0, 0, 0))
        chunks[:0] = b"VP8X" + (10).to_bytes(4, "little") + flags + b"".join(edges)
    chunks[8] |= _XMP_OF_WEBP
    chunks += b"XMP " + len(packet).to_bytes(4, "little") + packet + bytes(len(packet) % 2)
    return b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks
