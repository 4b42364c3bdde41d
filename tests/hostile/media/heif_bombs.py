"""AVIF and HEIC: derived pictures that are made of themselves, properties that lie, tables that point anywhere."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache

from PIL import Image

from avion_media.common.errors import Reason
from mediascrub.tests.made_files import box, full_box, saved
from mediascrub.tests.made_heif import AV1C, COLR, FILE_TYPE, ISPE, PIXI, PLAIN, MadeHeif, MadeItem, with_item
from mediascrub.tests.samples import DATA
from tests.hostile.media.bomb import READY, Bomb

_CODED = b"!" + AV1C


def extent(width: int, height: int) -> bytes:
    """``ispe``."""
    return full_box(b"ispe", 0, 0, struct.pack(">II", width, height))


def resized(width: int, height: int) -> bytes:
    """A good picture of 768 x 512 that says it has another size."""
    return replace(PLAIN, items=(MadeItem(1, properties=(extent(width, height), PIXI, _CODED, COLR)),)).build()


def grid(rows: int, columns: int, width: int, height: int, tiles: tuple[int, ...]) -> MadeHeif:
    """A grid picture made of items."""
    data = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    item = MadeItem(2, kind=b"grid", data=data, properties=(extent(width, height), PIXI))
    return replace(with_item(item, (b"dimg", 2, tiles)), primary=2)


def overlay(layers: tuple[int, ...]) -> MadeHeif:
    """An overlay picture of items."""
    data = bytes(2) + struct.pack(">4HII", 0, 0, 0, 0, 768, 512) + struct.pack(">ii", 0, 0) * len(layers)
    item = MadeItem(2, kind=b"iovl", data=data, properties=(extent(768, 512), PIXI))
    return replace(with_item(item, (b"dimg", 2, layers)), primary=2)


def grids_of_grids() -> bytes:
    """Each of 20 grids consists of 64 times the one before it."""
    items = [MadeItem(1)]
    references = []
    for number in range(2, 22):
        data = struct.pack(">BBBBII", 0, 1, 7, 7, 768 * 8, 512 * 8)
        items.append(MadeItem(number, kind=b"grid", data=data, properties=(extent(6144, 4096), PIXI)))
        references.append((b"dimg", number, (number - 1,) * 64))
    return replace(PLAIN, items=tuple(items), references=tuple(references), primary=21).build()


def turned(times: int) -> bytes:
    """The same picture, to be rotated again and again."""
    turns = tuple(b"!" + box(b"irot", b"\x01") for _ in range(times))
    return replace(PLAIN, items=(MadeItem(1, properties=(ISPE, PIXI, _CODED, COLR, *turns)),)).build()


def identity() -> bytes:
    """An ``iden`` picture of itself."""
    item = MadeItem(2, kind=b"iden", data=b"", properties=(ISPE, PIXI))
    return replace(with_item(item, (b"dimg", 2, (2,))), primary=2).build()


def cropped() -> bytes:
    """A clean aperture outside the picture."""
    aperture = b"!" + box(b"clap", struct.pack(">IIIIiIiI", 1 << 30, 1, 1 << 30, 1, -(1 << 30), 1, 1 << 30, 1))
    return replace(PLAIN, items=(MadeItem(1, properties=(ISPE, PIXI, _CODED, COLR, aperture)),)).build()


@cache
def sequence() -> bytes:
    """A good image sequence."""
    return (DATA / "avif-animated-exif-gps-xmp.avif").read_bytes()


def with_table(kind: bytes, content: bytes) -> bytes:
    """The sequence with the contents of one of its tables overwritten."""
    data = bytearray(sequence())
    at = data.index(kind) + 4
    data[at : at + len(content)] = content
    return bytes(data)


def nested_boxes(depth: int) -> bytes:
    """Boxes in boxes."""
    data = b""
    for _ in range(depth):
        data = box(b"meta", bytes(4) + data)
    return FILE_TYPE + data


@cache
def heic() -> bytes:
    """A good HEIC of tiles."""
    return (DATA / "heic-xiaomi-gps.heic").read_bytes()


def heic_with(kind: bytes, offset: int, content: bytes) -> bytes:
    """The HEIC with bytes behind a box type overwritten."""
    data = bytearray(heic())
    at = data.index(kind) + 4 + offset
    data[at : at + len(content)] = content
    return bytes(data)


def absurd_extents() -> bytes:
    """The HEIC whose every picture says that it has 65 535 x 65 535 pixels."""
    head = b"ispe" + bytes(4)
    pieces = heic().split(head)
    return pieces[0] + b"".join(head + b"\0\0\xff\xff" * 2 + piece[8:] for piece in pieces[1:])


def large_avif() -> bytes:
    """16 megapixels of one colour."""
    return saved(Image.new("RGB", (4000, 4000), (90, 120, 40)), "AVIF", speed=10, quality=20)


BOMBS = (
    Bomb("65535x65535.avif", lambda: resized(65_535, 65_535), Reason.BAD_DIMENSIONS),
    Bomb("16000x16000.avif", lambda: resized(16_000, 16_000), Reason.TOO_MANY_PIXELS),
    Bomb("larger-than-its-pixels.avif", lambda: resized(7000, 7000), READY),
    Bomb("empty.avif", lambda: resized(0, 0), Reason.BAD_DIMENSIONS),
    Bomb("16-megapixels.avif", large_avif, READY),
    Bomb("grid-of-itself.avif", lambda: grid(1, 1, 768, 512, (2,)).build(), Reason.CORRUPT),
    Bomb(
        "grid-of-65536-tiles.avif",
        lambda: grid(256, 256, 768 * 256, 512 * 256, (1,) * 65_535).build(),
        Reason.BAD_DIMENSIONS,
    ),
    Bomb("grid-of-too-few-tiles.avif", lambda: grid(4, 4, 3072, 2048, (1,)).build(), Reason.CORRUPT),
    Bomb("grid-larger-than-its-tiles.avif", lambda: grid(1, 1, 7000, 7000, (1,)).build(), Reason.DECODER_LIMIT),
    Bomb("grids-of-grids.avif", grids_of_grids, Reason.CORRUPT),
    Bomb("overlay-of-itself.avif", lambda: overlay((2, 2)).build(), Reason.CORRUPT),
    Bomb("overlay-of-60000-layers.avif", lambda: overlay((1,) * 60_000).build(), Reason.CORRUPT),
    Bomb("identity-of-itself.avif", identity, Reason.CORRUPT),
    Bomb("turned-100-times.avif", lambda: turned(100), READY),
    Bomb("cropped-to-nothing.avif", cropped, Reason.UNSUPPORTED_TYPE),
    Bomb(
        "circular-references.avif",
        lambda: with_item(MadeItem(2), (b"auxl", 1, (2,)), (b"auxl", 2, (1,))).build(),
        READY,
    ),
    Bomb(
        "data-outside-the-file.avif",
        lambda: replace(PLAIN, items=(MadeItem(1, at=0x7FFFFFFF),)).build(),
        Reason.CORRUPT,
    ),
    Bomb(
        "data-in-another-file.avif",
        lambda: replace(PLAIN, items=(MadeItem(1, data_reference=1),)).build(),
        Reason.EXTERNAL_REFERENCE,
    ),
    Bomb(
        "no-decoder-configuration.avif",
        lambda: replace(PLAIN, items=(MadeItem(1, properties=(ISPE,)),)).build(),
        Reason.CORRUPT,
    ),
    Bomb("no-primary.avif", lambda: replace(PLAIN, primary=9).build(), Reason.CORRUPT),
    Bomb(
        "noise-for-pixels.avif",
        lambda: replace(PLAIN, items=(MadeItem(1, data=b"\x12\x00" * 5000),)).build(),
        Reason.CORRUPT,
    ),
    Bomb("16384-extents.avif", lambda: FILE_TYPE + b"ispe" * 16_384, Reason.CORRUPT),
    Bomb("nested-boxes.avif", lambda: nested_boxes(5000), Reason.CORRUPT),
    Bomb("a-million-boxes.avif", lambda: FILE_TYPE + box(b"free") * (1 << 20), Reason.TOO_COMPLEX),
    Bomb("sequence-of-4-billion-samples.avif", lambda: with_table(b"stsz", bytes(4) + b"\xff" * 8), Reason.CORRUPT),
    Bomb("sequence-without-a-clock.avif", lambda: with_table(b"mdhd", bytes(24)), Reason.CORRUPT),
    Bomb("sequence-of-chunks-elsewhere.avif", lambda: with_table(b"stco", bytes(4) + b"\xff" * 12), Reason.CORRUPT),
    Bomb("65535x65535.heic", absurd_extents, Reason.BAD_DIMENSIONS),
    Bomb("references-nowhere.heic", lambda: heic_with(b"dimg", 0, b"\xff" * 40), Reason.CORRUPT),
    Bomb("data-outside-the-file.heic", lambda: heic_with(b"iloc", 8, b"\xff" * 200), Reason.CORRUPT),
    Bomb("noise-for-pixels.heic", lambda: heic()[:4000] + b"\xa5" * (len(heic()) - 4000), READY),
    Bomb("cut-off.heic", lambda: heic()[: len(heic()) // 2], Reason.CORRUPT),
    Bomb("a-picture-of-av1.heic", lambda: PLAIN.build().replace(b"avif", b"heic"), Reason.CORRUPT),
)
