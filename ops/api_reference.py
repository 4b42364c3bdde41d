"""What docs/reference/api.md says of each call and field. `reference` fails if one of the proto has no text here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from avion_media.common.errors import SENTENCES, Reason
from avion_media.common.parts import MAX_PARTS, MIN_PART_BYTES, MULTIPART_THRESHOLD_BYTES
from avion_media.common.wire.avion import media_pb2 as wire
from avion_media.config import Config
from avion_media.servers.api import validation
from mediathumbs import WAVEFORM_SPANS

MIB = 1 << 20
UPLOAD = Config().upload
SERVICE = wire.DESCRIPTOR.services_by_name["MediaService"]
TYPES = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name for name in ("string", "bytes", "bool", "int32", "int64")
}


@dataclass(frozen=True)
class Call:
    """What a method does, how else it ends, and one exchange."""

    does: str
    errors: tuple[str, ...]
    request: Any
    response: Any


_ID = "01KB1V7E9G04Q3M8T5Z2X6C0RW"
_PRIVATE_ID = "01KB1V7E9GG4Q3M8T5Z2X6C0RW"
_TOKEN = "AWko8QAAAAAFrYyD9p5PqkUJxQyO0mJ7l2c4kW1TzqNhB3aE"
_AT = 1_764_201_600
_VIDEO = "01KB1V7E9G40Q3M8T5Z2X6C0RW"
_REMOTE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UPLOAD_ID = "Mn5aVGhlU3RvcmVzT3duSWQ"
_URL = f"https://store.example/avion-media/incoming/{_ID}?X-Amz-Signature=…"
_PART_URL = f"https://store.example/avion-media/incoming/{_VIDEO}?partNumber=2&uploadId=…&X-Amz-Signature=…"

_NO_MEDIUM = "`NOT_FOUND`: the media item is not known"
_NO_UPLOAD = "`NOT_FOUND`: the upload was completed or aborted, or it has expired"
_DELETED = "`FAILED_PRECONDITION`, `DELETED`: the media item was deleted"
_UNREADABLE = (
    "`UNAVAILABLE`, `UNREADABLE_RECORD`: a later version wrote its record, and a replica of that version can read it"
)
_LATER_ID = "`UNAVAILABLE`, `UNREADABLE_RECORD`: a later version made an id, and a replica of that version knows it"
_FULL = "`UNAVAILABLE`, `REDIS_FULL`: Redis is full, so it takes no new work"

CALLS = {
    "RequestMediaUpload": Call(
        "Checks the fields, makes an id, and signs the upload. It needs no I/O, unless `multipart` is set: then it"
        " begins an upload in parts at the object store. An upload that is not completed in time is removed.",
        (
            "`RESOURCE_EXHAUSTED` with `RetryInfo`: the caller has `UPLOAD__MAX_PENDING` uploads that are not complete",
            "`FAILED_PRECONDITION`, `MULTIPART_OFF`: uploads in parts are off; the message says why",
        ),
        wire.RequestMediaUploadRequest(
            filename="beach.jpg", content_type="image/jpeg", size=3_145_728, owner="account:4711"
        ),
        wire.RequestMediaUploadResponse(
            media_id=_ID,
            upload_url=_URL,
            upload_headers={
                "Content-Type": "image/jpeg",
                "x-amz-acl": "bucket-owner-full-control",
                "x-amz-copy-source-if-match": '"no-server-side-copy"',
                "x-amz-meta-credentials": "drop",
                "x-amz-meta-owner": "account:4711",
            },
            expires_at={"seconds": _AT},
            visibility="MEDIA_VISIBILITY_PUBLIC",
        ),
    ),
    "CompleteMediaUpload": Call(
        "Checks that the file is there and queues exactly one task. For an upload in parts it first lists the parts,"
        " checks that they add up, and joins them. A repetition is not an error and queues nothing.",
        (
            _NO_MEDIUM,
            "`NOT_FOUND`: the upload in parts was aborted, or it has expired",
            "`FAILED_PRECONDITION`, `NOTHING_UPLOADED`: there is no file yet, or `upload_id` is missing",
            "`FAILED_PRECONDITION`, `PARTS_MISSING`: the metadata `numbers` of the `ErrorInfo` names the parts",
            _DELETED,
            _FULL,
        ),
        wire.CompleteMediaUploadRequest(media_id=_ID),
        wire.CompleteMediaUploadResponse(),
    ),
    "CacheRemoteMedia": Call(
        "Returns the id under which a remote file is served, and queues its download if there is no fresh copy. Calls"
        " for the same URL get the same task.",
        (
            "`PERMISSION_DENIED`, `HOST_DENIED`: the operator's lists refuse the host",
            "`PERMISSION_DENIED`, `HOST_BLOCKED`: moderators have blocked the host, or a domain above it",
            _DELETED,
            _FULL,
        ),
        wire.CacheRemoteMediaRequest(remote_url="https://social.example/media/42.jpg"),
        wire.CacheRemoteMediaResponse(
            status="pending", task_id="0b6f7e0c-6c1e-4d8b-9a4e-2f1d3c5b7a90", media_id=_REMOTE
        ),
    ),
    "GetMediaStatus": Call(
        "Returns the current status of a media item.",
        (_NO_MEDIUM,),
        wire.GetMediaStatusRequest(media_id=_ID),
        wire.MediaStatus(
            media_id=_ID,
            state="READY",
            content_type="image/jpeg",
            size=3_141_592,
            width=3024,
            height=4032,
            duration={},
            blurhash="LEHV6nWB2yk8pyo0adR*.7kCMdnj",
            thumbnails={size: f"/thumbnail/{size}/{_ID}" for size in ("small", "medium", "large")},
            path=f"/media/{_ID}",
            owner="account:4711",
            visibility="MEDIA_VISIBILITY_PUBLIC",
        ),
    ),
    "WatchMediaStatus": Call(
        "Sends the current state, then each change. The stream ends after a final state: `READY`, `FAILED` or"
        " `DELETED`. It also ends with `UNAVAILABLE` when a replica stops: call again.",
        (_NO_MEDIUM,),
        wire.GetMediaStatusRequest(media_id=_VIDEO),
        wire.MediaStatus(media_id=_VIDEO, state="PROCESSING"),
    ),
    "SignUploadParts": Call(
        "Returns which parts of an upload the object store has, and signed URLs for the parts. Any replica can continue"
        " an upload until it expires.",
        (_NO_UPLOAD, "`FAILED_PRECONDITION`, `MULTIPART_OFF`: uploads in parts are off; the message says why"),
        wire.SignUploadPartsRequest(media_id=_VIDEO, upload_id=_UPLOAD_ID, numbers=[2]),
        wire.SignUploadPartsResponse(
            parts=[wire.UploadPart(number=2, offset=MIN_PART_BYTES, size=MIN_PART_BYTES, url=_PART_URL)],
            expires_at={"seconds": 1_764_116_100},
        ),
    ),
    "AbortMediaUpload": Call(
        "Removes an upload in parts that is not complete. A repetition is not an error.",
        ("`FAILED_PRECONDITION`, `COMPLETED`: it was completed; delete the media item instead",),
        wire.AbortMediaUploadRequest(media_id=_VIDEO, upload_id=_UPLOAD_ID),
        wire.AbortMediaUploadResponse(),
    ),
    "GetUsage": Call(
        "Returns number and size of an owner's media, or of the copies of a remote host's files, by listing index"
        " objects. Both are 0 for an unknown owner or host.",
        (),
        wire.GetUsageRequest(owner="account:4711"),
        wire.GetUsageResponse(bytes=7_340_032, count=2),
    ),
    "ListOwnerMedia": Call(
        "Returns one page of an owner's media, the oldest first, or of the copies of a remote host's files, by their"
        " ids.",
        (),
        wire.ListOwnerMediaRequest(owner="account:4711", page_size=1),
        wire.ListOwnerMediaResponse(
            media=[wire.OwnedMedia(media_id=_ID, bytes=3_670_016, visibility="MEDIA_VISIBILITY_PUBLIC")],
            next_page_token=_ID,
        ),
    ),
    "DeleteMedia": Call(
        "Deletes media, like an entry of [`drop_deleted`](../how-to/delete-media.md): the origin answers 410 as soon as"
        " the call returns, and the objects are removed after the delay. Unknown ids count as well, because an upload"
        " may be on its way. `OK` means that the deletions survive the loss of Redis; after `UNAVAILABLE` they may be"
        " in force, so repeat the call. A call after an undelete deletes again.",
        (_FULL,),
        wire.DeleteMediaRequest(media_ids=[_ID, _VIDEO], owner="account:4711"),
        wire.DeleteMediaResponse(not_owned=[_VIDEO]),
    ),
    "UndeleteMedia": Call(
        "Undoes deletions whose removal has not begun, and returns what became of each media item. A repetition is not"
        " an error.",
        (_LATER_ID, _FULL),
        wire.UndeleteMediaRequest(media_ids=[_ID, _VIDEO]),
        wire.UndeleteMediaResponse(restored=[_ID], gone=[_VIDEO]),
    ),
    "SignMediaUrls": Call(
        "Returns tokens that open [private media](../private-media.md). It does not look up whether they exist.",
        (),
        wire.SignMediaUrlsRequest(media_ids=[_PRIVATE_ID], ttl={"seconds": 3600}, audience="account:4711"),
        wire.SignMediaUrlsResponse(tokens={_PRIVATE_ID: _TOKEN}, expires_at={"seconds": _AT + 3600}),
    ),
    "RevokeMediaUrls": Call(
        "Refuses all tokens of these media that were signed before. It holds on all replicas when the call returns,"
        " and if Redis loses its data.",
        ("`UNAVAILABLE`: some may be revoked; repeat the call",),
        wire.RevokeMediaUrlsRequest(media_ids=[_PRIVATE_ID], audience="account:4711"),
        wire.RevokeMediaUrlsResponse(),
    ),
    "BlockMedia": Call(
        "Blocks a media item and the known copies of its file: 451 at the origin, `FAILED` with reason `blocked`, and"
        " the file's hashes on the block list. The block is completed even if the call is interrupted. See"
        " [Moderation](../moderation.md).",
        (_NO_MEDIUM, _UNREADABLE),
        wire.BlockMediaRequest(media_id=_ID, note="report 815", ground=wire.BLOCK_GROUND_TERMS),
        wire.BlockMediaResponse(copies=1),
    ),
    "UnblockMedia": Call(
        "Ends a block, and the blocks of the copies that were blocked with it.",
        ("`FAILED_PRECONDITION`, `NOT_BLOCKED`: the media item is not blocked", _UNREADABLE),
        wire.UnblockMediaRequest(media_id=_ID),
        wire.UnblockMediaResponse(),
    ),
    "BlockHost": Call(
        "Blocks a remote host at once, on all replicas: nothing more is fetched from it. Its copies stay until they"
        " expire, unless `purge` is set. A repetition replaces scope and note. See"
        " [Block a domain](../how-to/block-a-domain.md).",
        (),
        wire.BlockHostRequest(host="bad.example", note="report 816", purge=True),
        wire.BlockHostResponse(found=1_204),
    ),
    "UnblockHost": Call(
        "Ends the block of a remote host.",
        ("`FAILED_PRECONDITION`, `HOST_NOT_BLOCKED`: the host is not blocked, or only by `REMOTE__DENY_HOSTS`",),
        wire.UnblockHostRequest(host="bad.example"),
        wire.UnblockHostResponse(),
    ),
    "ListBlockedHosts": Call(
        "Returns one page of the blocked hosts, in the order of their names, those of `REMOTE__DENY_HOSTS` among them.",
        (),
        wire.ListBlockedHostsRequest(),
        wire.ListBlockedHostsResponse(
            hosts=[
                wire.BlockedHost(
                    host="bad.example", note="report 816", since={"seconds": 1_764_201_600}, by="moderation"
                )
            ]
        ),
    ),
    "GetCapabilities": Call(
        "Returns the limits of this service. It needs no I/O. `/capabilities` at the origin has the same as JSON.",
        (),
        wire.GetCapabilitiesRequest(),
        wire.Capabilities(
            max_image_bytes=UPLOAD.max_image_bytes,
            max_video_bytes=UPLOAD.max_video_bytes,
            max_audio_bytes=UPLOAD.max_audio_bytes,
            max_pixels=UPLOAD.max_pixels,
            max_duration={"seconds": int(UPLOAD.max_duration)},
            max_audio_duration={"seconds": int(UPLOAD.max_audio_duration)},
            content_types=["image/jpeg", "video/mp4", "audio/mpeg"],
            thumbnail_sizes={"small": 400, "medium": 800, "large": 1600},
            multipart=True,
            multipart_threshold=MULTIPART_THRESHOLD_BYTES,
            reasons=[wire.FailureReason(code=Reason.EMPTY, sentence=SENTENCES[Reason.EMPTY])],
            max_aspect=200,
            max_frames=10_000,
            private_media=True,
        ),
    ),
}

_MEDIA_ID = "The id of an upload: 26 characters. Required"
_ANY_ID = "The id of an upload (26 characters) or of a remote file (64 hex digits). Required"
_UPLOAD_ID_TEXT = "The `upload_id` of RequestMediaUpload, unchanged. Required"
_MALFORMED = ("MEDIA_ID_REQUIRED", "MEDIA_ID_MALFORMED")
_ANY_IDS = (
    f"Ids of uploads or of remote files, 1 to {validation.MAX_MEDIA_IDS}. If one is malformed, the call does nothing,"
    " and the violation names it as `media_ids[number]`"
)
_PRIVATE_IDS = f"Ids of private media, 1 to {validation.MAX_MEDIA_IDS}. If one is not, the call does nothing"
_AUDIENCE = (
    "For whom the tokens are: at most 255 of the characters `A-Z a-z 0-9 . _ : -`, opaque, or empty. RevokeMediaUrls"
    " can refuse those of one audience"
)
_MALFORMED_IDS = ("MEDIA_IDS_REQUIRED", "MEDIA_IDS_TOO_MANY", "MEDIA_ID_MALFORMED")
_OF_UPLOADS = (*_MALFORMED, "MEDIA_ID_REMOTE")
_BAD_UPLOAD_ID = ("UPLOAD_ID_REQUIRED", "UPLOAD_ID_INVALID")
_HOST_FORM = "A host name of two labels or more: lower case, A-labels (`xn--…`), no port, path, wildcard or final dot"
_BAD_HOST = ("HOST_REQUIRED", "HOST_INVALID")
_PAGE_SIZE = f"Maximum media items on a page, up to {validation.MAX_PAGE_SIZE}; 0: {validation.DEFAULT_PAGE_SIZE}"
_OWNER_FORM = "1 to 64 of the characters `A-Z a-z 0-9 . _ : -`"

# Message and field: what it means, with its bounds, and the reasons with which a request is refused.
FIELDS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "RequestMediaUploadRequest": {
        "filename": (
            f"The file's name, of at most {validation.MAX_FILENAME_CHARACTERS} characters, without path separators and"
            " control characters. Required. A known extension must be of the same family as `content_type`",
            ("FILENAME_REQUIRED", "FILENAME_TOO_LONG", "FILENAME_INVALID", "EXTENSION_MISMATCH"),
        ),
        "content_type": (
            "One of `Capabilities.content_types`. Required",
            ("CONTENT_TYPE_REQUIRED", "CONTENT_TYPE_UNSUPPORTED", "CONTENT_TYPE_DISABLED"),
        ),
        "size": (
            f"Bytes, at least 1 and at most `UPLOAD__MAX_IMAGE_BYTES` ({UPLOAD.max_image_bytes // MIB} MiB),"
            f" `UPLOAD__MAX_VIDEO_BYTES` ({UPLOAD.max_video_bytes // MIB} MiB) or `UPLOAD__MAX_AUDIO_BYTES`"
            f" ({UPLOAD.max_audio_bytes // MIB} MiB). The store refuses another length",
            ("SIZE_NEGATIVE", "SIZE_ZERO", "SIZE_TOO_LARGE"),
        ),
        "sha256": (
            f"The file's SHA-256, {validation.SHA256_BYTES} bytes, or empty. The object store refuses other contents",
            ("SHA256_LENGTH", "SHA256_WITH_MULTIPART"),
        ),
        "owner": (f"The account that owns the media item: {_OWNER_FORM}, or empty", ("OWNER_INVALID",)),
        "multipart": ("Upload in parts, so that an interrupted upload can be continued", ()),
        "visibility": (
            "`MEDIA_VISIBILITY_PRIVATE`: readable only with [tokens](../private-media.md), for good. Unspecified:"
            " `MEDIA_VISIBILITY_PUBLIC`",
            ("VISIBILITY_UNKNOWN",),
        ),
        "credentials": (
            "What becomes of content credentials (C2PA) in the file: `CONTENT_CREDENTIALS_DROP` removes them,"
            " `CONTENT_CREDENTIALS_KEEP` [keeps them](../how-to/content-credentials.md). Unspecified: as"
            " `UPLOAD__CREDENTIALS` says",
            ("CREDENTIALS_UNKNOWN",),
        ),
    },
    "RequestMediaUploadResponse": {
        "media_id": ("The id of the media item from now on: 26 characters", ()),
        "upload_url": ("Where to PUT the file. Empty with `multipart`", ()),
        "upload_headers": ("Headers that the PUT must carry exactly", ()),
        "expires_at": (
            "When the URL expires (`UPLOAD__URL_TTL`); with `multipart`, when the upload expires"
            " (`UPLOAD__MULTIPART_TTL`)",
            (),
        ),
        "upload_id": ("With `multipart`: identifies the upload in later calls. Opaque", ()),
        "part_size": (
            f"With `multipart`: bytes of each part but the last; {MIN_PART_BYTES // MIB} MiB, or more if the file would"
            f" otherwise need over {MAX_PARTS} parts",
            (),
        ),
        "visibility": (
            "What the id says. Compare it before you hand out the URL: a replica of an earlier version makes a public"
            " media item",
            (),
        ),
    },
    "CompleteMediaUploadRequest": {
        "media_id": (_MEDIA_ID, _OF_UPLOADS),
        "upload_id": ("With an upload in parts: the `upload_id` of RequestMediaUpload", ("UPLOAD_ID_INVALID",)),
    },
    "CompleteMediaUploadResponse": {},
    "CacheRemoteMediaRequest": {
        "remote_url": (
            "An `http` or `https` URL. Required. [Remote media](../remote.md) says which addresses are fetched",
            ("REMOTE_URL_REQUIRED", "REMOTE_URL_INVALID", "OWN_URL"),
        ),
        "kind": (
            "What the file is: `REMOTE_MEDIA_KIND_ATTACHMENT`, `…_AVATAR`, `…_HEADER`, `…_EMOJI` or `…_PREVIEW_CARD`."
            " `REMOTE__KINDS` has the size limit and the time to live of each kind. Unspecified or"
            " unknown: an attachment. Of several kinds of one URL, the widest limit and the longest time count",
            (),
        ),
    },
    "CacheRemoteMediaResponse": {
        "status": ("`ready`: a copy is served. `pending`: a task is queued or running", ()),
        "task_id": ("With `pending`: the task", ()),
        "media_id": ("The id of the remote file: 64 hex digits", ()),
    },
    "GetMediaStatusRequest": {"media_id": (_ANY_ID, _MALFORMED)},
    "MediaStatus": {
        "media_id": ("The id of the request", ()),
        "state": ("See below", ()),
        "reason": (
            "`FAILED`: [why](../errors.md#reasons-of-failed-media). `PROCESSING`: `held` while a moderator decides",
            (),
        ),
        "retryable": ("`FAILED`: whether the same file can succeed later", ()),
        "content_type": ("`READY`: the type by content, never as declared", ()),
        "size": ("`READY`: bytes of the original as it is served", ()),
        "width": ("`READY`: pixels as displayed, with the orientation applied; of audio 0", ()),
        "height": ("`READY`: pixels, likewise", ()),
        "duration": ("`READY`: of a video, an animation or audio", ()),
        "animated": ("`READY`: an image with several frames", ()),
        "blurhash": ("`READY`: a [BlurHash](https://blurha.sh) of the image or poster; of audio empty", ()),
        "thumbnails": (
            "`READY`: path at the origin by the name of the size; `small.webp` where there is a WebP as well. Of audio"
            " they show the waveform",
            (),
        ),
        "path": ("`READY`: path of the original at the origin. Paths of private media have `{token}` literally", ()),
        "owner": ("`READY`: the account that the upload named; empty if it named none", ()),
        "visibility": (
            "`MEDIA_VISIBILITY_PUBLIC`: readable without a token; `MEDIA_VISIBILITY_PRIVATE`: only with one",
            (),
        ),
        "waveform": (
            f"`READY`, of audio: a byte for each of {WAVEFORM_SPANS} equal parts, the largest absolute value of all"
            " channels; 255 is full scale",
            (),
        ),
        "has_credentials": ("`READY`: the file had content credentials (C2PA) before it was scrubbed", ()),
        "digital_source_type": (
            "`READY`: how the file was made, by its content credentials or XMP: the last part of the IPTC code, such as"
            " `trainedAlgorithmicMedia`",
            (),
        ),
        "claim_generator": (
            "`READY`: the program that wrote the content credentials, at most 255 bytes. Nobody verified it",
            (),
        ),
        "credentials_path": ("`READY`: path at the origin, if they are kept beside the file", ()),
    },
    "SignUploadPartsRequest": {
        "media_id": (_MEDIA_ID, _OF_UPLOADS),
        "upload_id": (_UPLOAD_ID_TEXT, _BAD_UPLOAD_ID),
        "numbers": (
            "The numbers of the wanted parts, from 1; each gets a URL, even if it is stored. Empty: all parts, and only"
            " those that are not stored get a URL",
            ("NUMBERS_OUT_OF_RANGE", "NUMBERS_REPEATED"),
        ),
    },
    "SignUploadPartsResponse": {
        "parts": ("The parts, in the order of the request", ()),
        "expires_at": ("When the URLs expire", ()),
    },
    "UploadPart": {
        "number": ("Counts from 1", ()),
        "offset": ("Where the part begins in the file, in bytes", ()),
        "size": ("Bytes of the part. The object store refuses any other length", ()),
        "url": ("Where to PUT the part; empty if it is not signed", ()),
        "headers": ("Headers that the PUT must carry exactly", ()),
        "stored": ("Whether the object store has the part", ()),
        "etag": ("The object store's tag of a stored part. CompleteMediaUpload does not need it", ()),
    },
    "AbortMediaUploadRequest": {
        "media_id": (_MEDIA_ID, _OF_UPLOADS),
        "upload_id": (_UPLOAD_ID_TEXT, _BAD_UPLOAD_ID),
    },
    "AbortMediaUploadResponse": {},
    "GetUsageRequest": {
        "owner": (f"{_OWNER_FORM}. Required, unless there is a `host`", ("OWNER_REQUIRED", "OWNER_INVALID")),
        "host": (f"{_HOST_FORM}. Not with an `owner`", ("HOST_INVALID", "HOST_WITH_OWNER")),
    },
    "GetUsageResponse": {
        "bytes": ("Bytes of all originals, thumbnails and content credentials", ()),
        "count": ("Number of public media items, or of copies", ()),
    },
    "ListOwnerMediaRequest": {
        "owner": (f"{_OWNER_FORM}. Required, unless there is a `host`", ("OWNER_REQUIRED", "OWNER_INVALID")),
        "host": (f"{_HOST_FORM}. Not with an `owner`", ("HOST_INVALID", "HOST_WITH_OWNER")),
        "page_size": (_PAGE_SIZE, ("PAGE_SIZE_NEGATIVE",)),
        "page_token": ("The `next_page_token` of the previous page; empty: the first page", ("PAGE_TOKEN_INVALID",)),
    },
    "ListOwnerMediaResponse": {
        "media": ("The media of this page", ()),
        "next_page_token": ("Empty on the last page", ()),
    },
    "OwnedMedia": {
        "media_id": ("The id of the upload or of the remote file", ()),
        "visibility": ("As in MediaStatus", ()),
        "bytes": ("Bytes of its original, thumbnails and content credentials when it became public", ()),
    },
    "DeleteMediaRequest": {
        "media_ids": (_ANY_IDS, _MALFORMED_IDS),
        "delay": (
            "Time until the objects are removed, at least 0 and at most `DELETE__DELAY`; none: `DELETE__DELAY`. If a"
            " media item is deleted already, the earlier due time is valid",
            ("DELAY_OUT_OF_RANGE",),
        ),
        "owner": ("Delete only media of this owner, and return the others; empty: delete all", ("OWNER_INVALID",)),
    },
    "DeleteMediaResponse": {
        "not_owned": (
            "With `owner`: the ids of media that are not deleted, because `owner` is not known to own them. That"
            " includes uploads of which nothing is stored yet",
            (),
        ),
    },
    "UndeleteMediaRequest": {"media_ids": (_ANY_IDS, _MALFORMED_IDS)},
    "UndeleteMediaResponse": {
        "restored": ("Not deleted any more", ()),
        "gone": ("Still deleted: their objects are removed, or their removal has begun", ()),
        "blocked": ("Still deleted: a moderator must unblock them first", ()),
        "not_deleted": ("They were not deleted", ()),
    },
    "SignMediaUrlsRequest": {
        "media_ids": (_PRIVATE_IDS, (*_MALFORMED_IDS, "MEDIA_ID_NOT_PRIVATE")),
        "ttl": (
            "Lifetime of the tokens, 1 second to `PRIVATE__MAX_TTL` (7 days). None: `PRIVATE__TTL` (an hour)",
            ("TTL_OUT_OF_RANGE",),
        ),
        "audience": (_AUDIENCE, ("AUDIENCE_INVALID",)),
    },
    "SignMediaUrlsResponse": {
        "tokens": ("By media id, of 48 characters each. Media that are deleted have none", ()),
        "expires_at": ("When all of them expire", ()),
    },
    "RevokeMediaUrlsRequest": {
        "media_ids": (_PRIVATE_IDS, (*_MALFORMED_IDS, "MEDIA_ID_NOT_PRIVATE")),
        "audience": (
            "Whose tokens are refused, compared exactly. Empty: those of all audiences",
            ("AUDIENCE_INVALID",),
        ),
    },
    "RevokeMediaUrlsResponse": {},
    "BlockMediaRequest": {
        "media_id": (_ANY_ID, _MALFORMED),
        "note": (f"For the audit log, of at most {validation.MAX_NOTE} characters", ("NOTE_TOO_LONG",)),
        "keep_evidence": ("Deprecated and without effect: evidence is kept unless `discard_evidence`", ()),
        "discard_evidence": ("Keep no copy of the files in `quarantine/`", ()),
        "requested_at": (
            "When the notice arrived that asks for the block. Not in the future",
            ("REQUESTED_AT_INVALID",),
        ),
        "ground": ("Why: a `BlockGround`", ("GROUND_INVALID",)),
        "automated": ("The decision was made without a person", ()),
    },
    "BlockMediaResponse": {"copies": ("Known copies of the file that are blocked with it", ())},
    "UnblockMediaRequest": {"media_id": (_ANY_ID, _MALFORMED)},
    "UnblockMediaResponse": {},
    "BlockHostRequest": {
        "host": (f"{_HOST_FORM}, or an address. Required", _BAD_HOST),
        "exact": ("Block this host alone, not the hosts below it. An address is always exact", ()),
        "note": (f"For the record, of at most {validation.MAX_NOTE} characters", ("NOTE_TOO_LONG",)),
        "purge": ("Remove its copies, by the bulk job `delete.purge`", ()),
    },
    "BlockHostResponse": {"found": ("Copies of its files when the call returned", ())},
    "UnblockHostRequest": {"host": ("The host of the block, without regard to its scope. Required", _BAD_HOST)},
    "UnblockHostResponse": {},
    "ListBlockedHostsRequest": {
        "page_size": (_PAGE_SIZE.replace("media items", "hosts"), ("PAGE_SIZE_NEGATIVE",)),
        "page_token": ("The `next_page_token` of the previous page; empty: the first page", ()),
    },
    "ListBlockedHostsResponse": {
        "hosts": ("The blocks of this page", ()),
        "next_page_token": ("Empty on the last page", ()),
    },
    "BlockedHost": {
        "host": ("The host in normal form", ()),
        "exact": ("Whether the hosts below it are not blocked", ()),
        "note": ("The note of the block", ()),
        "since": ("When it was blocked; none for a host of the settings", ()),
        "by": ("Who blocked it; `settings` for a host of `REMOTE__DENY_HOSTS`", ()),
    },
    "GetCapabilitiesRequest": {},
    "Capabilities": {
        "max_image_bytes": ("Largest image", ()),
        "max_video_bytes": ("Largest video", ()),
        "max_audio_bytes": ("Largest audio file; `content_types` says whether audio is accepted", ()),
        "max_pixels": ("Maximum width × height × frames that are decoded", ()),
        "max_duration": ("Longest video", ()),
        "max_audio_duration": ("Longest audio file", ()),
        "content_types": ("What RequestMediaUpload accepts", ()),
        "thumbnail_sizes": ("Longest edge in pixels, by the name of the size", ()),
        "multipart": ("Whether uploads in parts are possible", ()),
        "multipart_threshold": ("File size in bytes above which clients should upload in parts", ()),
        "reasons": ("Each `reason` of a MediaStatus, with a sentence for the person who uploaded", ()),
        "max_aspect": ("How many times the other side the longer one may be", ()),
        "max_frames": ("Maximum number of frames of an animated image", ()),
        "private_media": ("Whether this replica knows private media", ()),
    },
    "FailureReason": {
        "code": ("As `MediaStatus.reason`", ()),
        "sentence": ("English, with the limits of this service filled in", ()),
        "retryable": ("Whether the same file can succeed later", ()),
    },
}

STATES = {
    "STATE_UNSPECIFIED": "Never sent",
    "PENDING_UPLOAD": "The upload is signed and not completed",
    "PROCESSING": "A task is queued or running",
    "READY": "Public. Final",
    "FAILED": "It cannot be published. Final",
    "DELETED": "It was deleted. Final, unless the deletion is undone",
}


def reference() -> str:
    """Every call with its messages, then the messages within messages, and the states."""
    messages = wire.DESCRIPTOR.message_types_by_name
    _same("calls", CALLS, [method.name for method in SERVICE.methods])
    _same("messages", FIELDS, messages)
    shown: set[str] = set()
    parts = []
    for method in SERVICE.methods:
        call = CALLS[method.name]
        arrow = "returns a stream of" if method.server_streaming else "returns"
        parts += [
            f"## {method.name}",
            f"`{method.input_type.name}` {arrow} `{method.output_type.name}`.\n\n{call.does}",
        ]
        parts += [_fields(message) for message in (method.input_type, method.output_type) if message.name not in shown]
        shown |= {method.input_type.name, method.output_type.name}
        if call.errors:
            parts.append("\n".join(f"- {each}." for each in call.errors))
        parts.append(f"```json\n{_json(call.request)}\n```\n\n```json\n{_json(call.response)}\n```")
    parts += [f"## {name}\n\n{_fields(messages[name])}" for name in messages if name not in shown]
    states = wire.MediaStatus.State.DESCRIPTOR.values_by_name
    _same("states", STATES, states)
    rows = "\n".join(f"| `{name}` | {states[name].number} | {text} |" for name, text in STATES.items())
    return "\n\n".join([*parts, f"## MediaStatus.State\n\n| state | number | |\n|---|---|---|\n{rows}"])


def _fields(message: Any) -> str:
    texts = FIELDS[message.name]
    _same(f"fields of {message.name}", texts, message.fields_by_name)
    if not texts:
        return f"`{message.name}` has no fields."
    heads = [f"`{message.name}`", "type", "meaning and bounds"]
    rows = [[f"`{field.name}`", _type(field), texts[field.name][0]] for field in message.fields]
    reasons = [", ".join(f"`{each}`" for each in texts[field.name][1]) for field in message.fields]
    if any(reasons):
        heads.append("refused with")
        rows = [[*row, each] for row, each in zip(rows, reasons, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def _type(field: Any) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map of {_type(key)} to {_type(value)}"
    named = field.message_type or field.enum_type
    name = named.full_name.removeprefix("avion.").removeprefix("google.protobuf.") if named else TYPES[field.type]
    return f"repeated {name}" if field.is_repeated else name


def _json(message: Any) -> str:
    shown = MessageToDict(message, preserving_proto_field_name=True)
    maps = (field.name for field in message.DESCRIPTOR.fields if _type(field).startswith("map "))
    shown.update({name: dict(sorted(shown[name].items())) for name in maps if name in shown})  # else in any order
    return json.dumps(shown, indent=2, ensure_ascii=False)


def _same(what: str, here: Any, there: Any) -> None:
    if set(here) != set(there):
        raise SystemExit(f"ops/api_reference.py: {what} differ from the proto: {sorted(set(here) ^ set(there))}")
