"""A picture as a JPEG stores it: luma, and chroma at half its resolution.

Thumbnails leave as 4:2:0 JPEG anyway, so chroma is reduced once, early, and every step after works on half the
samples. Luma, which the eye judges sharpness by, gets the better filter. Against resampling RGB this saves 40 % of the
time at equal SSIM (tests/bench/images).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

_LANCZOS = Image.Resampling.LANCZOS
_BICUBIC = Image.Resampling.BICUBIC
_NEAREST = Image.Resampling.NEAREST
_BOX = Image.Resampling.BOX


@dataclass(frozen=True, slots=True)
class Planes:
    """``luma`` (mode L), and Cb and Cr in ``chroma``, each as large as luma or half of it; empty for gray pictures."""

    luma: Image.Image
    chroma: tuple[Image.Image, ...] = ()

    @classmethod
    def of(cls, image: Image.Image) -> Planes:
        """The planes of a picture of mode L, RGB or YCbCr."""
        if image.mode == "L":
            return cls(image)
        luma, *chroma = (image if image.mode == "YCbCr" else image.convert("YCbCr")).split()
        return cls(luma, tuple(chroma))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.luma.size

    def shrunk(self, size: tuple[int, int]) -> Planes:
        """The picture at ``size``, which must not be larger on either side; itself when it has that size."""
        if size == self.size:
            return self
        half = (size[0] + 1) // 2, (size[1] + 1) // 2
        return Planes(
            # reducing_gap: averages 2x2, 3x3, … pixels first as long as at least twice the target is left, which
            # LANCZOS cannot tell from the whole. Chroma shows no difference down to the target itself.
            self.luma.resize(size, _LANCZOS, reducing_gap=2.0),
            tuple(plane.resize(half, _BICUBIC, reducing_gap=1.0) for plane in self.chroma),
        )

    def averaged(self, size: tuple[int, int]) -> Planes:
        """The picture at ``size``, each pixel the plain mean of those it stands for."""
        return Planes(self.luma.resize(size, _BOX), tuple(plane.resize(size, _BOX) for plane in self.chroma))

    def transposed(self, method: Image.Transpose) -> Planes:
        """The picture turned or mirrored."""
        return Planes(self.luma.transpose(method), tuple(plane.transpose(method) for plane in self.chroma))

    def merged(self) -> Image.Image:
        """The picture in one piece: L or YCbCr."""
        if not self.chroma:
            return self.luma
        # Nearest, not smoother: the encoder averages the same 2x2 pixels again and gets each sample back.
        return Image.merge("YCbCr", [self.luma, *(plane.resize(self.size, _NEAREST) for plane in self.chroma)])

    def rgb(self) -> Image.Image:
        """The picture in one piece: L or RGB."""
        return self.merged().convert("RGB") if self.chroma else self.luma

    def jpeg(self, quality: int) -> bytes:
        """The picture as a baseline JPEG, 4:2:0, with no metadata."""
        out = io.BytesIO()
        self.merged().save(out, "JPEG", quality=quality, subsampling="4:2:0")
        return out.getvalue()
