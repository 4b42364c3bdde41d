"""How large a coded picture is shown: cropped, stretched to square pixels. The same steps as ffmpeg's."""

from __future__ import annotations

from avion_media.domain.errors import Reason, Rejected
from avion_media.media.container.plan import VideoBounds

# Beyond this a pixel aspect is a mistake: the widest in use is 4:1 (anamorphic on half-width DV).
_MAX_PIXEL_ASPECT = 8.0


def check_shown_size(width: float, height: float, pixel_aspect: float, bounds: VideoBounds) -> None:
    """Check the displayed size of a coded (and cropped) ``width`` by ``height``. A turn of the picture changes nothing.

    The pixel aspect (width over height) stretches the width, as ffmpeg does; an implausible one counts as square.
    Raises `Rejected`: bad_dimensions for an empty or overlong side, bad_aspect, too_many_pixels.
    """
    if not 1 / _MAX_PIXEL_ASPECT <= pixel_aspect <= _MAX_PIXEL_ASPECT:
        pixel_aspect = 1.0
    shown = max(1, round(width * pixel_aspect)), max(1, round(height))
    if min(width, height) < 1 or max(*shown, width, height) > bounds.max_side:
        raise Rejected(Reason.BAD_DIMENSIONS, f"{width} x {height} shown as {shown[0]} x {shown[1]}")
    if max(shown) > bounds.max_aspect * min(shown):
        raise Rejected(Reason.BAD_ASPECT, f"{width} x {height} shown as {shown[0]} x {shown[1]}")
    if max(shown[0] * shown[1], width * height) > bounds.max_pixels:
        raise Rejected(Reason.TOO_MANY_PIXELS, f"{width} x {height} shown as {shown[0]} x {shown[1]}")
