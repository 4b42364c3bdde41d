"""A client of avion-media, for programs that upload files or act for people who do.

`MediaClient` makes every call of the service with a deadline, and raises the errors below. Messages are those of
``proto/avion/media.proto``, in `media`.
"""

from avion_media_client.client import MediaClient, UploadInParts
from avion_media_client.errors import (
    Conflict,
    FileChanged,
    InvalidRequest,
    MediaDeleted,
    MediaError,
    MediaFailed,
    NotAllowed,
    NotFound,
    StoreRefused,
    TooMany,
    Unavailable,
)
from avion_media_client.wire.avion import media_pb2 as media

__all__ = [
    "Conflict",
    "FileChanged",
    "InvalidRequest",
    "MediaClient",
    "MediaDeleted",
    "MediaError",
    "MediaFailed",
    "NotAllowed",
    "NotFound",
    "StoreRefused",
    "TooMany",
    "Unavailable",
    "UploadInParts",
    "media",
]
