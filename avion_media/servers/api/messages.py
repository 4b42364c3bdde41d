"""Messages of the contract, made of what the service knows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from avion_media.common import keys
from avion_media.common.errors import RETRYABLE
from avion_media.common.formats import FORMATS
from avion_media.common.ids import is_private
from avion_media.common.media import CredentialsState
from avion_media.common.parts import MULTIPART_THRESHOLD_BYTES
from avion_media.common.tasks import Status
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.items.moderation import BlockedHost
from avion_media.process.runtime import Runtime
from avion_media.servers.api.resumable import SignedPart
from avion_media.servers.api.sentences import PICTURE_BOUNDS, sentences


def visibility_of(media_id: str) -> wire.MediaVisibility:
    """Return the visibility that an id says."""
    return wire.MEDIA_VISIBILITY_PRIVATE if is_private(media_id) else wire.MEDIA_VISIBILITY_PUBLIC


def to_wire(status: Status) -> wire.MediaStatus:
    """Convert a status to the message of the contract."""
    message = wire.MediaStatus(
        media_id=status.media_id,
        state=status.state.value,
        reason=str(status.reason) if status.reason else "",
        retryable=status.retryable,
        thumbnails=status.thumbnails,
        visibility=visibility_of(status.media_id),
    )
    facts = status.facts
    if facts is not None:
        message.path = keys.original_path(status.media_id)
        message.owner = facts.owner
        message.content_type = facts.format.content_type
        message.size = facts.size_bytes
        message.width = facts.width
        message.height = facts.height
        message.animated = facts.animated
        message.blurhash = facts.blurhash
        message.waveform = facts.waveform
        message.duration.FromMilliseconds(round(facts.duration_s * 1000))
        message.has_credentials = facts.credentials is not CredentialsState.NONE
        message.digital_source_type = facts.digital_source_type
        message.claim_generator = facts.claim_generator
        if facts.credentials is CredentialsState.BESIDE_FILE:
            message.credentials_path = keys.credentials_path(status.media_id)
    return message


def part_to_wire(signed: SignedPart) -> wire.UploadPart:
    """Return the message of one part."""
    part, stored, put = signed.part, signed.stored, signed.put
    return wire.UploadPart(
        number=part.number,
        offset=part.offset,
        size=part.size_bytes,
        url=put.url if put is not None else "",
        headers=put.headers if put is not None else {},
        stored=stored is not None,
        etag=stored.etag if stored is not None else "",
    )


def host_to_wire(blocked: BlockedHost) -> wire.BlockedHost:
    """Return the message of one blocked host."""
    message = wire.BlockedHost(host=blocked.host, exact=blocked.exact, note=blocked.note, by=blocked.by)
    if blocked.since:
        message.since.FromDatetime(datetime.fromisoformat(blocked.since))
    return message


def kind_name(kind: int) -> str:
    """Return the name of a kind of remote media; an unknown one counts as attachment."""
    known = wire.RemoteMediaKind.DESCRIPTOR.values_by_number.get(kind)
    return "" if known is None else known.name.removeprefix("REMOTE_MEDIA_KIND_").lower()


def capabilities_of(runtime: Runtime) -> wire.Capabilities:
    """Return what clients may upload, as far as known now, and what they get."""
    config, upload = runtime.config, runtime.config.upload
    enabled = config.enabled_formats()
    message = wire.Capabilities(
        max_image_bytes=upload.max_image_bytes,
        max_video_bytes=upload.max_video_bytes,
        max_audio_bytes=upload.max_audio_bytes,
        max_pixels=upload.max_pixels,
        content_types=[
            content_type
            for fmt in FORMATS
            if fmt.name in enabled
            for content_type in (fmt.content_type, *fmt.other_content_types)
        ],
        thumbnail_sizes={size.name: size.longest_edge for size in config.thumbnails.sizes},
        multipart=runtime.store.is_filled and runtime.store.get().multipart.allowed,
        multipart_threshold=MULTIPART_THRESHOLD_BYTES,
        reasons=[
            wire.FailureReason(code=reason.value, sentence=sentence, retryable=reason in RETRYABLE)
            for reason, sentence in sentences(upload).items()
        ],
        max_aspect=int(PICTURE_BOUNDS.max_aspect),
        max_frames=PICTURE_BOUNDS.max_frames,
        private_media=True,
    )
    message.max_duration.FromMilliseconds(round(upload.max_duration * 1000))
    message.max_audio_duration.FromMilliseconds(round(upload.max_audio_duration * 1000))
    return message


def capabilities_for_pages(message: wire.Capabilities) -> dict[str, Any]:
    """Return the fields by name, for JSON: numbers as numbers, and durations in seconds."""
    reasons = [{"code": each.code, "sentence": each.sentence, "retryable": each.retryable} for each in message.reasons]
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields} | {
        "max_duration": message.max_duration.ToMilliseconds() / 1000,
        "max_audio_duration": message.max_audio_duration.ToMilliseconds() / 1000,
        "content_types": list(message.content_types),
        "thumbnail_sizes": dict(message.thumbnail_sizes),
        "reasons": reasons,
    }
