"""The one EXIF tag that matters for pixels: Orientation, read without trusting anything.

Only the tag in IFD0 of the EXIF block counts. XMP (`tiff:Orientation`) does not: browsers ignore it, and the scrubbed
original no longer has it, so a thumbnail turned by it would stand beside an original that is not.
"""

from __future__ import annotations

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def orientation_of(exif: bytes) -> int:
    """The orientation (1 to 8) in an EXIF block, with or without its ``Exif`` prefix; 1 when absent or damaged."""
    tiff = exif[6:] if exif[:4] == b"Exif" else exif
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, ifd)
        for index in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, ifd + 2 + 12 * index)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass  # an offset that points outside: the tag is not there
    return 1
