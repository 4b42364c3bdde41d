"""Requests to an S3 store on Trio: objects and listings by presigned URLs, from and to files and sockets.

A request for one object, or for a page of a listing, takes less than half of botocore's CPU time, and no thread. What
is rare (buckets, rules, multipart uploads) is left to botocore. `Presigner` signs without any I/O.
"""

from trio_s3.errors import NoAnswer, NotS3, Refusal, Refused, S3Error, TooLarge, refusal_of
from trio_s3.http import Http, acknowledge_at_once
from trio_s3.objects import (
    ByteRange,
    Bytes,
    BytesSource,
    ContentRange,
    FileSource,
    ListedObject,
    ObjectInfo,
    ObjectPart,
    PartRequest,
    PresignedPut,
    Source,
    within,
)
from trio_s3.patches import Patch, PlannedPart, patched, plan_patched_copy
from trio_s3.presign import META, Presigner, SigningCredentials, upload_guard
from trio_s3.relay import Relay
from trio_s3.requests import ATTEMPTS, LONGEST_PAUSE_S, ListingPage, Pages, Requests

__all__ = [
    "ATTEMPTS",
    "LONGEST_PAUSE_S",
    "META",
    "ByteRange",
    "Bytes",
    "BytesSource",
    "ContentRange",
    "FileSource",
    "Http",
    "ListedObject",
    "ListingPage",
    "NoAnswer",
    "NotS3",
    "ObjectInfo",
    "ObjectPart",
    "Pages",
    "PartRequest",
    "Patch",
    "PlannedPart",
    "PresignedPut",
    "Presigner",
    "Refusal",
    "Refused",
    "Relay",
    "Requests",
    "S3Error",
    "SigningCredentials",
    "Source",
    "TooLarge",
    "acknowledge_at_once",
    "patched",
    "plan_patched_copy",
    "refusal_of",
    "upload_guard",
    "within",
]
