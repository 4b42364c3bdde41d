"""Settings of uploads, thumbnails and decoders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, create_model, field_validator

from avion_media.common.formats import FORMATS, Family
from avion_media.common.media import FULL_SIZE, is_size_name
from avion_media.common.settings import Duration, Section, Size
from mediathumbs import ThumbnailSize


def _parse_sizes(value: object) -> object:
    if not isinstance(value, str):
        return value
    sizes = []
    for part in value.split(","):
        name, _, edge = part.strip().partition(":")
        if not is_size_name(name) or not re.fullmatch(r"[1-9][0-9]{0,4}", edge):
            raise ValueError("expected name:pixels pairs, such as small:400,medium:800")
        sizes.append(ThumbnailSize(name, int(edge)))
    if any(size.longest_edge > FULL_SIZE.longest_edge for size in sizes):
        raise ValueError(f"an edge can have at most {FULL_SIZE.longest_edge} pixels")
    if any(size.name == FULL_SIZE.name for size in sizes):
        raise ValueError(f"{FULL_SIZE.name} is reserved for the rendition of formats that browsers cannot show")
    if len({size.name for size in sizes}) != len(sizes):
        raise ValueError("a size name is given twice")
    return tuple(sizes)


Sizes = Annotated[
    tuple[ThumbnailSize, ...],
    BeforeValidator(_parse_sizes),
    PlainSerializer(lambda sizes: ",".join(f"{each.name}:{each.longest_edge}" for each in sizes)),
]


class UploadConfig(Section):
    """Limits on uploads. Pixels are width × height × frames decoded."""

    max_image_bytes: Size = Field(16 << 20, gt=0, description="Maximum size of an image")
    max_video_bytes: Size = Field(256 << 20, gt=0, description="Maximum size of a video")
    max_audio_bytes: Size = Field(64 << 20, gt=0, description="Maximum size of an audio file")
    max_pixels: int = Field(1 << 26, ge=1, description="Maximum width × height × frames decoded")
    max_duration: Duration = Field(4 * 3600.0, description="Maximum duration of a video or an animation")
    max_audio_duration: Duration = Field(
        2 * 3600.0, gt=0, le=24 * 3600, description="Maximum duration of an audio file"
    )
    audio: bool = Field(True, description="Whether audio files are accepted")
    url_ttl: Duration = Field(900.0, ge=1, le=7 * 86400, description="Lifetime of an upload URL")
    multipart_ttl: Duration = Field(
        86400.0, ge=60, description="How long an upload in parts can be continued; then its parts are removed"
    )
    max_pending: int = Field(
        250_000,
        ge=0,
        description="Maximum uploads a caller can request without completing them, per replica; 0: unlimited",
    )

    credentials: Literal["drop", "keep"] = Field(
        "drop",
        description="Content credentials (C2PA) of uploads that do not ask for either, and of remote media: `drop`"
        " removes them like other private data, `keep` publishes them in the file or beside it",
    )
    credentials_link: bool = Field(
        False,
        description="Whether the origin links a file to the content credentials beside it, by a header `Link`;"
        " validators then report the file as changed",
    )

    @field_validator("multipart_ttl")
    @classmethod
    def _outlives_a_url(cls, ttl: float, info: ValidationInfo) -> float:
        if ttl < info.data.get("url_ttl", 0):
            raise ValueError("must be at least UPLOAD__URL_TTL: the parts would be removed while their URLs are valid")
        return ttl

    @property
    def keeps_credentials(self) -> bool:
        """Whether content credentials are kept if an upload does not ask for either."""
        return self.credentials == "keep"

    def max_bytes(self, family: Family) -> int:
        """Return the maximum size of an upload of a family."""
        by_family = {Family.IMAGE: self.max_image_bytes, Family.AUDIO: self.max_audio_bytes}
        return by_family.get(family, self.max_video_bytes)

    @property
    def most_bytes(self) -> int:
        """The maximum size of any upload."""
        return max(map(self.max_bytes, Family))


class ThumbnailsConfig(Section):
    """Named sizes: longest edge in pixels."""

    sizes: Sizes = Field(
        (ThumbnailSize("small", 400), ThumbnailSize("medium", 800), ThumbnailSize("large", 1600)),
        description="Names and longest edges in pixels; images are never enlarged",
    )
    quality: int = Field(80, ge=1, le=95, description="Quality of the JPEG thumbnails, 1 to 95")
    webp: Literal["off", "alpha", "all"] = Field(
        "alpha",
        description="Which media get WebP thumbnails beside the JPEGs: `off` (none), `alpha` (images with transparency)"
        " or `all`",
    )


class _Decoders(Section):
    """A switch for each format, which applies to new uploads, to validation and to processing."""

    def enabled(self) -> frozenset[str]:
        """Names of the formats (`MediaFormat.name`) that are switched on."""
        return frozenset(name for name, on in self.model_dump().items() if on)


if TYPE_CHECKING:
    DecodersConfig = _Decoders
else:
    _SWITCHES = {fmt.name: (bool, fmt.switched_on) for fmt in FORMATS}
    DecodersConfig = create_model("DecodersConfig", __base__=_Decoders, __doc__=_Decoders.__doc__, **_SWITCHES)


class SandboxConfig(Section):
    """Limits of one sandboxed decoder process, and of all of them together."""

    memory: Size = Field(1536 << 20, ge=256 << 20, description="Maximum memory of one sandboxed process")
    budget: Size = Field(3 << 30, gt=0, description="Maximum memory of all sandboxed processes together")
    timeout: Duration = Field(90.0, gt=0, description="Maximum wall time of one sandboxed process")
    slots: int = Field(2, ge=1, description="Maximum concurrent sandboxed processes")
    require: bool = Field(
        True, description="Refuse to start if the kernel cannot fully sandbox decoders; `false` accepts the gaps"
    )

    @field_validator("budget")
    @classmethod
    def _holds_one(cls, budget: int, info: ValidationInfo) -> int:
        if budget < info.data.get("memory", 0):
            raise ValueError("must be at least SANDBOX__MEMORY, or large files could never be processed")
        return budget
