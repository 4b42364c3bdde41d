"""Messages of the contract, made of what the service knows."""

from __future__ import annotations

from avion_media.common import keys
from avion_media.common.ids import is_private
from avion_media.common.media import CredentialsState
from avion_media.common.tasks import Status
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.items.moderation import BlockedHost
from avion_media.servers.api.resumable import SignedPart


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
    if blocked.since_time is not None:
        message.since.FromDatetime(blocked.since_time)
    return message


def kind_name(kind: int) -> str:
    """Return the name of a kind of remote media; an unknown one counts as attachment."""
    known = wire.RemoteMediaKind.DESCRIPTOR.values_by_number.get(kind)
    return "" if known is None else known.name.removeprefix("REMOTE_MEDIA_KIND_").lower()
