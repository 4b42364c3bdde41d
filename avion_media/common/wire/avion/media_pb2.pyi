# ruff: noqa
# fmt: off
# mypy: ignore-errors
import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MediaVisibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEDIA_VISIBILITY_UNSPECIFIED: _ClassVar[MediaVisibility]
    MEDIA_VISIBILITY_PUBLIC: _ClassVar[MediaVisibility]
    MEDIA_VISIBILITY_PRIVATE: _ClassVar[MediaVisibility]

class ContentCredentials(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTENT_CREDENTIALS_UNSPECIFIED: _ClassVar[ContentCredentials]
    CONTENT_CREDENTIALS_DROP: _ClassVar[ContentCredentials]
    CONTENT_CREDENTIALS_KEEP: _ClassVar[ContentCredentials]

class RemoteMediaKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REMOTE_MEDIA_KIND_UNSPECIFIED: _ClassVar[RemoteMediaKind]
    REMOTE_MEDIA_KIND_ATTACHMENT: _ClassVar[RemoteMediaKind]
    REMOTE_MEDIA_KIND_AVATAR: _ClassVar[RemoteMediaKind]
    REMOTE_MEDIA_KIND_HEADER: _ClassVar[RemoteMediaKind]
    REMOTE_MEDIA_KIND_EMOJI: _ClassVar[RemoteMediaKind]
    REMOTE_MEDIA_KIND_PREVIEW_CARD: _ClassVar[RemoteMediaKind]

class BlockGround(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_GROUND_UNSPECIFIED: _ClassVar[BlockGround]
    BLOCK_GROUND_TERMS: _ClassVar[BlockGround]
    BLOCK_GROUND_ILLEGAL: _ClassVar[BlockGround]
    BLOCK_GROUND_CHILD_SAFETY: _ClassVar[BlockGround]
    BLOCK_GROUND_NONCONSENSUAL: _ClassVar[BlockGround]
    BLOCK_GROUND_TERROR: _ClassVar[BlockGround]
    BLOCK_GROUND_COPYRIGHT: _ClassVar[BlockGround]
    BLOCK_GROUND_COURT_ORDER: _ClassVar[BlockGround]
    BLOCK_GROUND_OTHER: _ClassVar[BlockGround]
MEDIA_VISIBILITY_UNSPECIFIED: MediaVisibility
MEDIA_VISIBILITY_PUBLIC: MediaVisibility
MEDIA_VISIBILITY_PRIVATE: MediaVisibility
CONTENT_CREDENTIALS_UNSPECIFIED: ContentCredentials
CONTENT_CREDENTIALS_DROP: ContentCredentials
CONTENT_CREDENTIALS_KEEP: ContentCredentials
REMOTE_MEDIA_KIND_UNSPECIFIED: RemoteMediaKind
REMOTE_MEDIA_KIND_ATTACHMENT: RemoteMediaKind
REMOTE_MEDIA_KIND_AVATAR: RemoteMediaKind
REMOTE_MEDIA_KIND_HEADER: RemoteMediaKind
REMOTE_MEDIA_KIND_EMOJI: RemoteMediaKind
REMOTE_MEDIA_KIND_PREVIEW_CARD: RemoteMediaKind
BLOCK_GROUND_UNSPECIFIED: BlockGround
BLOCK_GROUND_TERMS: BlockGround
BLOCK_GROUND_ILLEGAL: BlockGround
BLOCK_GROUND_CHILD_SAFETY: BlockGround
BLOCK_GROUND_NONCONSENSUAL: BlockGround
BLOCK_GROUND_TERROR: BlockGround
BLOCK_GROUND_COPYRIGHT: BlockGround
BLOCK_GROUND_COURT_ORDER: BlockGround
BLOCK_GROUND_OTHER: BlockGround

class RequestMediaUploadRequest(_message.Message):
    __slots__ = ("filename", "content_type", "size", "sha256", "owner", "multipart", "visibility", "credentials")
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    MULTIPART_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    filename: str
    content_type: str
    size: int
    sha256: bytes
    owner: str
    multipart: bool
    visibility: MediaVisibility
    credentials: ContentCredentials
    def __init__(self, filename: _Optional[str] = ..., content_type: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., owner: _Optional[str] = ..., multipart: _Optional[bool] = ..., visibility: _Optional[_Union[MediaVisibility, str]] = ..., credentials: _Optional[_Union[ContentCredentials, str]] = ...) -> None: ...

class RequestMediaUploadResponse(_message.Message):
    __slots__ = ("media_id", "upload_url", "upload_headers", "expires_at", "upload_id", "part_size", "visibility")
    class UploadHeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_URL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_HEADERS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    PART_SIZE_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    upload_url: str
    upload_headers: _containers.ScalarMap[str, str]
    expires_at: _timestamp_pb2.Timestamp
    upload_id: str
    part_size: int
    visibility: MediaVisibility
    def __init__(self, media_id: _Optional[str] = ..., upload_url: _Optional[str] = ..., upload_headers: _Optional[_Mapping[str, str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., upload_id: _Optional[str] = ..., part_size: _Optional[int] = ..., visibility: _Optional[_Union[MediaVisibility, str]] = ...) -> None: ...

class CompleteMediaUploadRequest(_message.Message):
    __slots__ = ("media_id", "upload_id")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    upload_id: str
    def __init__(self, media_id: _Optional[str] = ..., upload_id: _Optional[str] = ...) -> None: ...

class CompleteMediaUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CacheRemoteMediaRequest(_message.Message):
    __slots__ = ("remote_url", "kind")
    REMOTE_URL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    remote_url: str
    kind: RemoteMediaKind
    def __init__(self, remote_url: _Optional[str] = ..., kind: _Optional[_Union[RemoteMediaKind, str]] = ...) -> None: ...

class CacheRemoteMediaResponse(_message.Message):
    __slots__ = ("status", "task_id", "media_id")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    status: str
    task_id: str
    media_id: str
    def __init__(self, status: _Optional[str] = ..., task_id: _Optional[str] = ..., media_id: _Optional[str] = ...) -> None: ...

class GetMediaStatusRequest(_message.Message):
    __slots__ = ("media_id",)
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    def __init__(self, media_id: _Optional[str] = ...) -> None: ...

class MediaStatus(_message.Message):
    __slots__ = ("media_id", "state", "reason", "retryable", "content_type", "size", "width", "height", "duration", "animated", "blurhash", "thumbnails", "path", "owner", "visibility", "has_credentials", "credentials_path", "waveform", "digital_source_type", "claim_generator")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[MediaStatus.State]
        PENDING_UPLOAD: _ClassVar[MediaStatus.State]
        PROCESSING: _ClassVar[MediaStatus.State]
        READY: _ClassVar[MediaStatus.State]
        FAILED: _ClassVar[MediaStatus.State]
        DELETED: _ClassVar[MediaStatus.State]
    STATE_UNSPECIFIED: MediaStatus.State
    PENDING_UPLOAD: MediaStatus.State
    PROCESSING: MediaStatus.State
    READY: MediaStatus.State
    FAILED: MediaStatus.State
    DELETED: MediaStatus.State
    class ThumbnailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    ANIMATED_FIELD_NUMBER: _ClassVar[int]
    BLURHASH_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    HAS_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_PATH_FIELD_NUMBER: _ClassVar[int]
    WAVEFORM_FIELD_NUMBER: _ClassVar[int]
    DIGITAL_SOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CLAIM_GENERATOR_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    state: MediaStatus.State
    reason: str
    retryable: bool
    content_type: str
    size: int
    width: int
    height: int
    duration: _duration_pb2.Duration
    animated: bool
    blurhash: str
    thumbnails: _containers.ScalarMap[str, str]
    path: str
    owner: str
    visibility: MediaVisibility
    has_credentials: bool
    credentials_path: str
    waveform: bytes
    digital_source_type: str
    claim_generator: str
    def __init__(self, media_id: _Optional[str] = ..., state: _Optional[_Union[MediaStatus.State, str]] = ..., reason: _Optional[str] = ..., retryable: _Optional[bool] = ..., content_type: _Optional[str] = ..., size: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., animated: _Optional[bool] = ..., blurhash: _Optional[str] = ..., thumbnails: _Optional[_Mapping[str, str]] = ..., path: _Optional[str] = ..., owner: _Optional[str] = ..., visibility: _Optional[_Union[MediaVisibility, str]] = ..., has_credentials: _Optional[bool] = ..., credentials_path: _Optional[str] = ..., waveform: _Optional[bytes] = ..., digital_source_type: _Optional[str] = ..., claim_generator: _Optional[str] = ...) -> None: ...

class SignUploadPartsRequest(_message.Message):
    __slots__ = ("media_id", "upload_id", "numbers")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    upload_id: str
    numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, media_id: _Optional[str] = ..., upload_id: _Optional[str] = ..., numbers: _Optional[_Iterable[int]] = ...) -> None: ...

class SignUploadPartsResponse(_message.Message):
    __slots__ = ("parts", "expires_at")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[UploadPart]
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, parts: _Optional[_Iterable[_Union[UploadPart, _Mapping]]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UploadPart(_message.Message):
    __slots__ = ("number", "offset", "size", "url", "headers", "stored", "etag")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    number: int
    offset: int
    size: int
    url: str
    headers: _containers.ScalarMap[str, str]
    stored: bool
    etag: str
    def __init__(self, number: _Optional[int] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ..., url: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., stored: _Optional[bool] = ..., etag: _Optional[str] = ...) -> None: ...

class AbortMediaUploadRequest(_message.Message):
    __slots__ = ("media_id", "upload_id")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    upload_id: str
    def __init__(self, media_id: _Optional[str] = ..., upload_id: _Optional[str] = ...) -> None: ...

class AbortMediaUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("owner", "host")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    owner: str
    host: str
    def __init__(self, owner: _Optional[str] = ..., host: _Optional[str] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("bytes", "count")
    BYTES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    bytes: int
    count: int
    def __init__(self, bytes: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ListOwnerMediaRequest(_message.Message):
    __slots__ = ("owner", "page_size", "page_token", "host")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    owner: str
    page_size: int
    page_token: str
    host: str
    def __init__(self, owner: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., host: _Optional[str] = ...) -> None: ...

class ListOwnerMediaResponse(_message.Message):
    __slots__ = ("media", "next_page_token")
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    media: _containers.RepeatedCompositeFieldContainer[OwnedMedia]
    next_page_token: str
    def __init__(self, media: _Optional[_Iterable[_Union[OwnedMedia, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class OwnedMedia(_message.Message):
    __slots__ = ("media_id", "bytes", "visibility")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    bytes: int
    visibility: MediaVisibility
    def __init__(self, media_id: _Optional[str] = ..., bytes: _Optional[int] = ..., visibility: _Optional[_Union[MediaVisibility, str]] = ...) -> None: ...

class DeleteMediaRequest(_message.Message):
    __slots__ = ("media_ids", "delay", "owner")
    MEDIA_IDS_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    media_ids: _containers.RepeatedScalarFieldContainer[str]
    delay: _duration_pb2.Duration
    owner: str
    def __init__(self, media_ids: _Optional[_Iterable[str]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., owner: _Optional[str] = ...) -> None: ...

class DeleteMediaResponse(_message.Message):
    __slots__ = ("not_owned",)
    NOT_OWNED_FIELD_NUMBER: _ClassVar[int]
    not_owned: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, not_owned: _Optional[_Iterable[str]] = ...) -> None: ...

class UndeleteMediaRequest(_message.Message):
    __slots__ = ("media_ids",)
    MEDIA_IDS_FIELD_NUMBER: _ClassVar[int]
    media_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, media_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class UndeleteMediaResponse(_message.Message):
    __slots__ = ("restored", "gone", "blocked", "not_deleted")
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    NOT_DELETED_FIELD_NUMBER: _ClassVar[int]
    restored: _containers.RepeatedScalarFieldContainer[str]
    gone: _containers.RepeatedScalarFieldContainer[str]
    blocked: _containers.RepeatedScalarFieldContainer[str]
    not_deleted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, restored: _Optional[_Iterable[str]] = ..., gone: _Optional[_Iterable[str]] = ..., blocked: _Optional[_Iterable[str]] = ..., not_deleted: _Optional[_Iterable[str]] = ...) -> None: ...

class SignMediaUrlsRequest(_message.Message):
    __slots__ = ("media_ids", "ttl", "audience")
    MEDIA_IDS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    media_ids: _containers.RepeatedScalarFieldContainer[str]
    ttl: _duration_pb2.Duration
    audience: str
    def __init__(self, media_ids: _Optional[_Iterable[str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., audience: _Optional[str] = ...) -> None: ...

class SignMediaUrlsResponse(_message.Message):
    __slots__ = ("tokens", "expires_at")
    class TokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.ScalarMap[str, str]
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, tokens: _Optional[_Mapping[str, str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RevokeMediaUrlsRequest(_message.Message):
    __slots__ = ("media_ids", "audience")
    MEDIA_IDS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    media_ids: _containers.RepeatedScalarFieldContainer[str]
    audience: str
    def __init__(self, media_ids: _Optional[_Iterable[str]] = ..., audience: _Optional[str] = ...) -> None: ...

class RevokeMediaUrlsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlockMediaRequest(_message.Message):
    __slots__ = ("media_id", "note", "keep_evidence", "discard_evidence", "requested_at", "ground", "automated")
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    KEEP_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    DISCARD_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_FIELD_NUMBER: _ClassVar[int]
    GROUND_FIELD_NUMBER: _ClassVar[int]
    AUTOMATED_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    note: str
    keep_evidence: bool
    discard_evidence: bool
    requested_at: _timestamp_pb2.Timestamp
    ground: BlockGround
    automated: bool
    def __init__(self, media_id: _Optional[str] = ..., note: _Optional[str] = ..., keep_evidence: _Optional[bool] = ..., discard_evidence: _Optional[bool] = ..., requested_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ground: _Optional[_Union[BlockGround, str]] = ..., automated: _Optional[bool] = ...) -> None: ...

class BlockMediaResponse(_message.Message):
    __slots__ = ("copies",)
    COPIES_FIELD_NUMBER: _ClassVar[int]
    copies: int
    def __init__(self, copies: _Optional[int] = ...) -> None: ...

class UnblockMediaRequest(_message.Message):
    __slots__ = ("media_id",)
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    def __init__(self, media_id: _Optional[str] = ...) -> None: ...

class UnblockMediaResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BlockHostRequest(_message.Message):
    __slots__ = ("host", "exact", "note", "purge")
    HOST_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    host: str
    exact: bool
    note: str
    purge: bool
    def __init__(self, host: _Optional[str] = ..., exact: _Optional[bool] = ..., note: _Optional[str] = ..., purge: _Optional[bool] = ...) -> None: ...

class BlockHostResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: int
    def __init__(self, found: _Optional[int] = ...) -> None: ...

class UnblockHostRequest(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: str
    def __init__(self, host: _Optional[str] = ...) -> None: ...

class UnblockHostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBlockedHostsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBlockedHostsResponse(_message.Message):
    __slots__ = ("hosts", "next_page_token")
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    hosts: _containers.RepeatedCompositeFieldContainer[BlockedHost]
    next_page_token: str
    def __init__(self, hosts: _Optional[_Iterable[_Union[BlockedHost, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class BlockedHost(_message.Message):
    __slots__ = ("host", "exact", "note", "since", "by")
    HOST_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    host: str
    exact: bool
    note: str
    since: _timestamp_pb2.Timestamp
    by: str
    def __init__(self, host: _Optional[str] = ..., exact: _Optional[bool] = ..., note: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("max_image_bytes", "max_video_bytes", "max_pixels", "max_duration", "content_types", "thumbnail_sizes", "multipart", "multipart_threshold", "max_audio_bytes", "reasons", "max_aspect", "max_frames", "private_media", "max_audio_duration")
    class ThumbnailSizesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_VIDEO_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_SIZES_FIELD_NUMBER: _ClassVar[int]
    MULTIPART_FIELD_NUMBER: _ClassVar[int]
    MULTIPART_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_AUDIO_BYTES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    MAX_ASPECT_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    PRIVATE_MEDIA_FIELD_NUMBER: _ClassVar[int]
    MAX_AUDIO_DURATION_FIELD_NUMBER: _ClassVar[int]
    max_image_bytes: int
    max_video_bytes: int
    max_pixels: int
    max_duration: _duration_pb2.Duration
    content_types: _containers.RepeatedScalarFieldContainer[str]
    thumbnail_sizes: _containers.ScalarMap[str, int]
    multipart: bool
    multipart_threshold: int
    max_audio_bytes: int
    reasons: _containers.RepeatedCompositeFieldContainer[FailureReason]
    max_aspect: int
    max_frames: int
    private_media: bool
    max_audio_duration: _duration_pb2.Duration
    def __init__(self, max_image_bytes: _Optional[int] = ..., max_video_bytes: _Optional[int] = ..., max_pixels: _Optional[int] = ..., max_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., content_types: _Optional[_Iterable[str]] = ..., thumbnail_sizes: _Optional[_Mapping[str, int]] = ..., multipart: _Optional[bool] = ..., multipart_threshold: _Optional[int] = ..., max_audio_bytes: _Optional[int] = ..., reasons: _Optional[_Iterable[_Union[FailureReason, _Mapping]]] = ..., max_aspect: _Optional[int] = ..., max_frames: _Optional[int] = ..., private_media: _Optional[bool] = ..., max_audio_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FailureReason(_message.Message):
    __slots__ = ("code", "sentence", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    sentence: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., sentence: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...
