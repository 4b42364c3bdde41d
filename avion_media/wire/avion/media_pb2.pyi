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
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestMediaUploadRequest(_message.Message):
    __slots__ = ("filename", "content_type", "size", "sha256")
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    filename: str
    content_type: str
    size: int
    sha256: bytes
    def __init__(self, filename: _Optional[str] = ..., content_type: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class RequestMediaUploadResponse(_message.Message):
    __slots__ = ("media_id", "upload_url", "upload_headers", "expires_at")
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
    media_id: str
    upload_url: str
    upload_headers: _containers.ScalarMap[str, str]
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, media_id: _Optional[str] = ..., upload_url: _Optional[str] = ..., upload_headers: _Optional[_Mapping[str, str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CompleteMediaUploadRequest(_message.Message):
    __slots__ = ("media_id",)
    MEDIA_ID_FIELD_NUMBER: _ClassVar[int]
    media_id: str
    def __init__(self, media_id: _Optional[str] = ...) -> None: ...

class CompleteMediaUploadResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CacheRemoteMediaRequest(_message.Message):
    __slots__ = ("remote_url",)
    REMOTE_URL_FIELD_NUMBER: _ClassVar[int]
    remote_url: str
    def __init__(self, remote_url: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("media_id", "state", "reason", "retryable", "content_type", "size", "width", "height", "duration", "animated", "blurhash", "thumbnails")
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
    def __init__(self, media_id: _Optional[str] = ..., state: _Optional[_Union[MediaStatus.State, str]] = ..., reason: _Optional[str] = ..., retryable: _Optional[bool] = ..., content_type: _Optional[str] = ..., size: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., animated: _Optional[bool] = ..., blurhash: _Optional[str] = ..., thumbnails: _Optional[_Mapping[str, str]] = ...) -> None: ...
