"""What a file says of its making: read from manifests and XMP, written as the only XMP, and never trusted."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mediascrub import Format, Provenance, SparseFile, labelled, plan_movie, read_picture, read_provenance
from mediascrub.credentials import CREDENTIALS_TYPE
from mediascrub.isobmff import make_box
from mediascrub.png import make_chunk
from mediascrub.provenance import MAX_GENERATOR_BYTES, MAX_READ_BYTES
from mediascrub.tests.signed import sign

DATA = Path(__file__).parents[2] / "tests" / "data"
URL = "http://cv.iptc.org/newscodes/digitalsourcetype/"
AI = "trainedAlgorithmicMedia"
SAMPLES = {
    Format.JPEG: "jpeg-portrait-orientation-6.jpg",
    Format.PNG: "png-exif-gps-text.png",
    Format.WEBP: "webp-orientation-6.webp",
    Format.GIF: "polyglot-gif-js.gif",
    Format.AVIF: "avif-irot-imir.avif",
    Format.HEIC: "heic-still-portrait.heic",
}
_IPTC = 'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
FORMS = {
    "attribute": f"<rdf:Description {_IPTC} Iptc4xmpExt:DigitalSourceType='{URL}{AI}'/>",
    "element": f"<a {_IPTC}><Iptc4xmpExt:DigitalSourceType>\n {URL}{AI}\n</Iptc4xmpExt:DigitalSourceType>",
    "resource": f'<rdf:Description {_IPTC}><Iptc4xmpExt:DigitalSourceType rdf:resource="{URL}{AI}"/>',
    "other prefix": f'<a {_IPTC.replace("Iptc4xmpExt=", "q=")} q:DigitalSourceType = "https{URL[4:]}{AI}/"/>',
}


def text(value: str) -> bytes:
    return bytes((0x79,)) + struct.pack(">H", len(value.encode())) + value.encode()


def array(*items: bytes) -> bytes:
    return bytes((0x80 + len(items),)) + b"".join(items)


def mapping(**items: bytes) -> bytes:
    return bytes((0xA0 + len(items),)) + b"".join(text(name) + value for name, value in items.items())


def superbox(label: str, *boxes: bytes) -> bytes:
    return make_box(b"jumb", make_box(b"jumd", bytes(16), b"\x03", label.encode(), b"\0"), *boxes)


def store_of(claim: bytes, *actions: bytes, kind: bytes = b"cbor") -> bytes:
    """Return a manifest store with an earlier manifest, and an active one of this claim and these assertions."""
    assertions = superbox("c2pa.assertions", *(superbox("c2pa.actions.v2", make_box(kind, each)) for each in actions))
    earlier = superbox("urn:earlier", superbox("c2pa.claim", make_box(b"cbor", mapping(claim_generator=text("older")))))
    active = superbox("urn:active", assertions, superbox("c2pa.claim.v2", make_box(b"cbor", claim)))
    return make_box(b"jumb", make_box(b"jumd", CREDENTIALS_TYPE, b"\x03c2pa\x00"), earlier, active)


def created(url: str) -> bytes:
    return mapping(actions=array(mapping(action=text("c2pa.created"), digitalSourceType=text(url))))


def said_by(data: bytes, fmt: Format) -> Provenance:
    picture = read_picture(memoryview(data), fmt)
    parts = picture.credentials.manifest if picture.credentials is not None else ()
    return read_provenance(b"".join(data[each.offset : each.end] for each in parts), bytes(picture.xmp))


def with_xmp(data: bytes, fmt: Format, packet: bytes) -> bytes:
    """Return a picture with a packet where its format has it; an extended WebP gets a chunk more."""
    if fmt is Format.JPEG:
        content = b"http://ns.adobe.com/xap/1.0/\0" + packet
        return data[:2] + struct.pack(">2sH", b"\xff\xe1", 2 + len(content)) + content + data[2:]
    if fmt is Format.PNG:
        return data[:33] + make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet) + data[33:]
    chunk = b"XMP " + struct.pack("<I", len(packet)) + packet + bytes(len(packet) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8 + len(chunk)) + data[8:] + chunk


@pytest.mark.parametrize("fmt", SAMPLES)
def test_credentials_signed_by_others_say_how_a_picture_was_made(fmt: Format) -> None:
    signed, _ = sign((DATA / SAMPLES[fmt]).read_bytes(), fmt)
    found = said_by(signed, fmt)
    assert found.digital_source_type == "digitalCapture"
    assert found.claim_generator.startswith("test")


def test_a_video_says_it_too(tmp_path: Path) -> None:
    signed, manifest = sign((DATA / "mp4-h264-udta-xyz-location.mp4").read_bytes(), Format.MP4)
    (tmp_path / "signed").write_bytes(signed)
    with (tmp_path / "signed").open("rb") as file:
        credentials = plan_movie(SparseFile(file.fileno(), len(signed)), Format.MP4).credentials
    assert credentials is not None
    assert read_provenance(manifest, b"").digital_source_type == "digitalCapture"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fmt", [Format.JPEG, Format.PNG, Format.WEBP])
def test_xmp_says_it_in_each_of_its_forms(fmt: Format, form: str) -> None:
    data = with_xmp((DATA / SAMPLES[fmt]).read_bytes(), fmt, FORMS[form].encode())
    assert said_by(data, fmt) == Provenance(AI)


@pytest.mark.parametrize(
    "packet",
    [
        FORMS["attribute"].replace(AI, "a b"),
        FORMS["attribute"].replace(AI, "x" * 65),
        FORMS["attribute"].replace(AI, "<script>"),
        FORMS["attribute"].replace(URL, "http://example.com/"),
        FORMS["attribute"].replace(_IPTC, 'xmlns:Iptc4xmpExt="http://example.com/"'),
        FORMS["attribute"].replace("DigitalSourceType", "DigitalSourceFileType"),
        "",
    ],
)
def test_anything_but_a_code_of_iptc_says_nothing(packet: str) -> None:
    assert read_provenance(b"", packet.encode()) == Provenance()


def test_the_active_manifest_counts_and_before_xmp() -> None:
    claim = mapping(claim_generator=text("Firefly/2 c2pa-rs/1"), claim_generator_info=mapping(name=text("other")))
    store = store_of(claim, created(URL + "algorithmicMedia"))
    expected = Provenance("algorithmicMedia", "Firefly/2 c2pa-rs/1")
    assert read_provenance(store, FORMS["attribute"].encode()) == expected
    nothing = store_of(claim, mapping(actions=array(mapping(action=text("c2pa.opened")))))
    assert read_provenance(nothing, FORMS["attribute"].encode()) == Provenance(AI, "Firefly/2 c2pa-rs/1")


def test_name_and_version_stand_for_a_claim_without_a_text() -> None:
    info = mapping(name=text("Camera"), version=text("1.0"))
    for claim in (mapping(claim_generator_info=info), mapping(claim_generator_info=array(info, info))):
        assert read_provenance(store_of(claim), b"").claim_generator == "Camera 1.0"


def test_the_name_of_a_program_is_cut_and_cleaned() -> None:
    for name in ("é" * 200, "a" + "é" * 200, "🙂" * 100):
        found = read_provenance(store_of(mapping(claim_generator=text(name))), b"").claim_generator
        assert MAX_GENERATOR_BYTES - 4 < len(found.encode()) <= MAX_GENERATOR_BYTES
        assert name.startswith(found)
    hostile = read_provenance(store_of(mapping(claim_generator=text("a\r\n\x00\u202eb\x7f\u2028"))), b"")
    assert hostile.claim_generator == "ab"


def test_actions_in_json_are_read() -> None:
    document = '{"actions": [3, {"action": "c2pa.created", "digitalSourceType": "%s"}]}' % (URL + AI)
    assert read_provenance(store_of(mapping(), document.encode(), kind=b"json"), b"").digital_source_type == AI
    assert read_provenance(store_of(mapping(), b"[" * 100_000, kind=b"json"), b"") == Provenance()


def test_a_damaged_manifest_says_nothing_and_raises_nothing() -> None:
    store = store_of(mapping(claim_generator=text("x")), created(URL + AI))
    for end in range(len(store)):
        read_provenance(store[:end], b"")
        read_provenance(store[:end] + b"\xff" + store[end + 1 :], b"")
    for item in (
        b"\x81" * 5000,
        b"\x9f" * 5000,
        b"\x9b" + b"\xff" * 8,
        b"\xbf\x01",
        b"\x7f\x41a\xff",
        b"\x1c",
        b"\x3f",
    ):
        assert read_provenance(store_of(item), b"") == Provenance()
    assert read_provenance(store + bytes(MAX_READ_BYTES), b"") == Provenance()


@pytest.mark.parametrize("fmt", [Format.JPEG, Format.PNG, Format.WEBP])
def test_a_scrubbed_picture_can_carry_the_code_and_no_other_xmp(fmt: Format) -> None:
    data = with_xmp((DATA / SAMPLES[fmt]).read_bytes(), fmt, FORMS["element"].encode() + b"<dc:creator>private")
    picture = read_picture(memoryview(data), fmt)
    published = labelled(picture, AI)
    assert said_by(published, fmt) == Provenance(AI)
    assert b"private" not in published
    again = read_picture(memoryview(published), fmt)
    assert again.displayed_size == picture.displayed_size
    assert labelled(again, AI) == published
    if fmt is not Format.WEBP:
        assert again.original == picture.original


def test_formats_without_a_place_for_it_stay_as_they_are() -> None:
    for fmt in (Format.GIF, Format.AVIF):
        picture = read_picture(memoryview((DATA / SAMPLES[fmt]).read_bytes()), fmt)
        assert labelled(picture, AI) == picture.original
